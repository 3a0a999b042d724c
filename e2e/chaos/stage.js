// What a scenario stands on: Redis in a shape, services, clients, producers, chance with a seed, and the log of it all.
import { Random } from '../lib/random.js';
import { until } from '../lib/until.js';
import { Crowd } from './crowd.js';
import { Fleet } from './fleet.js';
import { held, queued, size } from './held.js';
import { Log } from './log.js';
import { Producers } from './producers.js';
import { shapes } from './shapes/index.js';

const ROOMS = ['anchor', 'birch', 'cedar', 'dune', 'ember', 'fjord'];
export const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

export class Stage {
  log = new Log();

  /**
   * @param {{ shape: string, redis?: object, fleet?: object, crowd?: object, flow?: object, bounded?: string[] }} setup
   * @param {{ seed: number, long: boolean, wait?: number | 'all', away?: boolean }} how
   */
  async set(setup, { seed, long, wait = 0, away = false }) {
    const { shape, redis = {}, fleet = {}, crowd = {}, flow = {}, bounded = [] } = setup;
    Object.assign(this, { setup, long, away, bounded: [...bounded], random: new Random(seed) });
    /** Milliseconds to wait for something that should be so at once. */
    this.patience = long ? 60_000 : 20_000;
    this.rooms = [...ROOMS.slice(0, long ? 6 : 4), ...bounded];
    this.shape = await shapes[shape](redis);
    // In a Cluster each primary has replicas of its own.
    this.replicas = shape === 'cluster' ? 1 : this.shape.replicas.length;
    this.wait = wait === 'all' ? this.replicas : wait;
    /** Whether the docs say that Redis may lose something by a promotion. */
    this.mayLose = this.wait < this.replicas || this.replicas === 0;
    this.fleet = await Fleet.start(this.log, this.shape, { wait: this.wait, ...fleet });
    this.crowd = await Crowd.gather(this.log, this.fleet, { clients: long ? 120 : 24, rooms: this.rooms, ...crowd });
    this.producers = new Producers(this.log, () => this.fleet.ingest(), { rooms: this.rooms, rate: 10, ...flow });
    await this.flowing();
  }

  /** Waits until every client that is there has got, in each of its rooms, something sent from now on. Gives whether it has. */
  async flowing(milliseconds = this.patience) {
    if (this.lacking) return false;
    const last = new Map();
    for (const { kind, room, n } of this.log.events) if (kind === 'sent') last.set(room, n);
    const clients = this.crowd.present.filter((client) => !client.deaf);
    return until('messages flow', () => clients.every((client) => client.gone || client.rooms.every((room) => (client.last.get(room) ?? 0) > (last.get(room) ?? 0))), milliseconds).then(() => true, () => false);
  }

  /** Replicas are about to be too few by so many; where every write waits for more than are left, the auditor is told. */
  lack(count = 1) {
    if (this.wait <= this.replicas - count || this.lacking) return;
    this.lacking = true;
    this.log.add('lacking');
  }

  /** All replicas are there again. */
  ample() {
    if (this.lacking) this.log.add('ample');
    this.lacking = false;
  }

  /** Goes on for a while. Only how much happens depends on it. */
  async pass(seconds) {
    await pause(seconds * 1000);
  }

  /**
   * A fault: `act` brings it, and comes back when the cause is gone, or when Redis has another primary. A third of the
   * clients is away meanwhile where the run says so.
   * @param {string} name
   * @param {() => Promise<unknown>} act
   * @param {{ loses?: boolean, cut?: string[], only?: string[] }} [what] `loses`: Redis may lose what it accepted, as far as the
   *   docs say so; `cut`: gateways that can't reach the primary; `only`: services that it concerns, where the others go on
   */
  async fault(name, act, { loses = false, cut = [], only } = {}) {
    const away = this.away ? this.crowd.third : [];
    this.crowd.leave(away);
    this.log.add('fault', { name, loses, cut, only });
    try {
      await act();
    } finally {
      this.log.add('healed', { name });
      this.crowd.return(away);
    }
  }

  /** Lets everything come to rest, and notes what Redis holds. */
  async finish() {
    await this.flowing();
    await this.producers.stop();
    this.crowd.rest();
    const last = new Map();
    for (const { kind, room, n, outcome } of this.log.events) if (kind === 'sent' && outcome === 'accepted') last.set(room, n);
    await until('all has come', () => this.crowd.clients.every((client) => client.rooms.every((room) => (client.last.get(room) ?? 0) >= (last.get(room) ?? 0))), this.patience).catch(() => {});
    // They need not be empty all the time: dispatchers send probes through them.
    const drained = await until('the queues are empty', async () => (await queued(this.shape)) === 0, this.patience).then(() => true, () => false);
    for (const room of this.rooms) this.log.add('held', { room, offsets: await held(this.shape, room), bounded: this.bounded.includes(room) });
    this.log.add('queued', { count: drained ? 0 : await queued(this.shape) });
    await this.fleet.declared();
    this.log.add('end');
    this.keys = await size(this.shape);
  }

  async end() {
    await this.producers?.stop();
    this.crowd?.close();
    await this.fleet?.end();
    await this.shape?.end();
  }
}
