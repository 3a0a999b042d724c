// Carillon's services as real processes, and what they say of their readiness.
//
// Each has a name that it keeps when it is killed and started again, as a place in a Deployment has. Where clients and
// producers go is decided as Kubernetes decides it: to one that is ready, and each time anew.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { canary } from '../lib/canaries.js';
import { Service } from '../lib/processes.js';
import { until } from '../lib/until.js';
import { Network } from './network.js';

/** Milliseconds between two looks at the readiness of a service, and how long one may take. */
const LOOK = 250;
const LOOK_TIMEOUT = 1_000;
/** The checks that fail, of the lines that /readyz answers. */
const failed = (text) => text.split('\n').filter((line) => line.startsWith('fail ')).map((line) => line.slice('fail '.length)).join('; ');
const HISTORY = 'history: { size: 100000, bytes: 256MiB, age: 1h }';

export class Fleet {
  /** name → service @type {Map<string, Service>} */
  services = new Map();
  #ready = new Map();
  #looking = new Map();
  #order = [];

  /**
   * @param {import('./log.js').Log} log
   * @param {object} shape of Redis
   * @param {{ wait?: number, network?: boolean, rooms?: string, settings?: object, each?: (name: string) => object, counts?: Record<string, number> }} what
   *   `rooms`: lines of the policy before the last, which keeps everything
   */
  static async start(log, shape, { wait = 0, network = false, rooms = '', settings = {}, each = () => ({}), counts = {} } = {}) {
    const fleet = new Fleet();
    fleet.log = log;
    fleet.shape = shape;
    fleet.wait = wait;
    fleet.settings = settings;
    fleet.each = each;
    fleet.network = network ? new Network(shape) : undefined;
    fleet.policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
    fs.writeFileSync(fleet.policy, `anonymous: { sessions: true, producers: true }\nrooms:\n${rooms}- { match: "*", join: anyone, publish: anyone, ${HISTORY} }\n`);
    const all = { gateway: 2, dispatcher: 2, ingest: 1, ...counts };
    fleet.names = Object.entries(all).flatMap(([kind, count]) => Array.from({ length: count }, (_, n) => `${kind}-${n}`));
    // Who joins a room before its partition begins is told `false` at the first message: true, and not what is tried here.
    await Promise.all(fleet.of('dispatcher').map((name) => fleet.start(name)));
    await fleet.owned();
    await Promise.all(fleet.names.filter((name) => !name.startsWith('dispatcher')).map((name) => fleet.start(name)));
    return fleet;
  }

  /** Names of the services of a kind. */
  of(kind) {
    return this.names.filter((name) => name.startsWith(kind));
  }

  get(name) {
    return this.services.get(name);
  }

  /** The settings that lead a service to Redis. */
  async #toRedis(name) {
    if (this.network) await this.network.join(name);
    const port = (server) => this.network?.portOf(name, server) ?? server.port;
    const [first, ...others] = this.shape.seeds;
    const login = this.shape.password ? `:${encodeURIComponent(this.shape.password)}@` : '';
    return {
      CARILLON_REDIS__URL: `redis://${login}127.0.0.1:${port(first)}`,
      CARILLON_REDIS__MODE: this.shape.mode,
      ...(others.length > 0 && { CARILLON_REDIS__NODES: others.map((server) => `127.0.0.1:${port(server)}`).join(',') }),
      CARILLON_REDIS__WAIT_REPLICAS: `${this.wait}`,
    };
  }

  /** Starts a service, or another process in its place. With `more` settings, and another binary if one is named. */
  async start(name, { more = {}, binary, ready = true } = {}) {
    const kind = name.split('-')[0];
    const settings = {
      ...(await this.#toRedis(name)),
      CARILLON_POLICY__FILE: this.policy,
      // A client notices by a ping that does not come.
      CARILLON_GATEWAY__PING__INTERVAL: '2s',
      CARILLON_GATEWAY__PING__TIMEOUT: '2s',
      CARILLON_GATEWAY__FORWARDING__SECRET: canary('forwarding-secret'),
      ...this.settings,
      ...this.each(name),
      ...more,
    };
    const service = await Service.start(kind, settings, { ready: false, ...(binary && { binary }) });
    this.services.set(name, service);
    this.#note(name, 'started');
    service.ended.then(() => { if (this.services.get(name) === service) this.#gone(name); });
    this.#watch(name, service);
    if (ready) await until(`${name} is ready; its log: ${service.log}`, () => this.#ready.get(name) === true, 60_000);
    return service;
  }

  #note(name, state) {
    this.log.add('service', { service: name, service_kind: name.split('-')[0], state });
  }

  #gone(name) {
    this.#ready.set(name, undefined);
    if (!this.ending) this.#note(name, 'gone');
  }

  async #watch(name, service) {
    let last;
    while (this.services.get(name) === service && !this.ending) {
      const look = await fetch(`${service.admin}/readyz`, { signal: AbortSignal.timeout(LOOK_TIMEOUT) }).then(
        async (answer) => ({ ok: answer.ok, text: answer.ok ? '' : failed(await answer.text()) }),
        (error) => ({ ok: error.cause?.code === 'ECONNREFUSED' ? undefined : false, text: 'no answer' }),
      );
      if (this.services.get(name) !== service || this.ending || service.left) return;
      if (service.standing !== true && look.ok !== undefined && (look.ok !== last?.ok || look.text !== last?.text)) {
        this.log.add('ready', { service: name, ...look });
        last = look;
      }
      // What it says when it goes on is news, also if it is what it said before.
      if (service.standing) last = undefined;
      this.#ready.set(name, look.ok);
      if (look.ok && !service.was) {
        service.was = true;
        // Not looked at again: a fault may have begun since.
        service.wasReady();
      }
      await new Promise((resolve) => { setTimeout(resolve, LOOK); });
    }
  }

  isReady(name) {
    return this.#ready.get(name) === true;
  }

  async kill(name) {
    await this.get(name).kill();
  }

  /** Asks it to go, and waits until it has. */
  async leave(name) {
    this.get(name).left = true;
    this.#ready.set(name, undefined);
    this.#note(name, 'leaving');
    return this.get(name).stop();
  }

  /** Stops it in its tracks, for others to find out. */
  stop(name) {
    this.get(name).standing = true;
    this.get(name).signal('SIGSTOP');
    this.#note(name, 'stopped');
  }

  continue(name) {
    this.get(name).signal('SIGCONT');
    this.get(name).standing = false;
    this.#note(name, 'continued');
  }

  /** One of a kind that is ready, or any if none is; at `home` if that is one. */
  pick(kind, home) {
    const names = this.of(kind);
    if (home && this.isReady(home)) return home;
    const ready = names.filter((name) => this.isReady(name));
    if (ready.length === 0) return home ?? names[0];
    this.#order[kind] = ((this.#order[kind] ?? 0) + 1) % ready.length;
    return ready[this.#order[kind]];
  }

  /** An ingest to send to. */
  ingest() {
    const name = this.pick('ingest');
    return { name, ingest: this.get(name).ingest };
  }

  /** The sum of a metric over services: all of a kind, or those that are named. */
  async sum(which, metric, labels = '') {
    const names = typeof which === 'string' ? this.of(which) : which;
    const counts = await Promise.all(names.map((name) => this.get(name).metric(metric, labels)));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Waits until the dispatchers that run own all partitions. */
  async owned() {
    await until('all partitions are owned', async () => {
      const there = this.of('dispatcher').filter((name) => this.isReady(name) && !this.get(name).standing);
      return (await this.sum(there, 'carillon_dispatcher_owned', '"partition"')) === 8;
    }, 60_000);
  }

  /** Notes how often gateways had been declared dead. */
  async declared() {
    for (const name of this.of('gateway')) {
      const count = await this.get(name).metric('carillon_gateway_reincarnations_total').catch(() => 0);
      this.log.add('declared', { service: name, count });
    }
  }

  async end() {
    this.ending = true;
    await Promise.all([...this.services.values()].map(async (service) => {
      service.signal('SIGCONT');
      await service.kill();
    }));
    this.network?.close();
  }
}
