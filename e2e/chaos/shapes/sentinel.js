// A primary with two replicas, and three Sentinels who watch over them.
import { randomBytes } from 'node:crypto';
import { canary } from '../../lib/canaries.js';
import { freePort } from '../../lib/ports.js';
import { until } from '../../lib/until.js';
import { SENTINEL, Server } from './server.js';

const NAME = 'mymaster';
const PASSWORD = canary('redis-password');
/** Milliseconds without an answer after which a Sentinel takes a server to be down. */
export const DOWN_AFTER = 2_000;

export class Sentinels {
  mode = 'sentinel';
  password = PASSWORD;

  static async start({ lines = [] } = {}) {
    const shape = new Sentinels();
    shape.lines = ['repl-timeout 5', ...lines];
    const first = await Server.start({ lines: shape.lines, password: PASSWORD });
    shape.data = [first];
    await Promise.all([shape.attach(), shape.attach()]);
    // They know of each other from the beginning, so that a test need not wait until they have met.
    const ids = await Promise.all([0, 1, 2].map(async () => ({ id: randomBytes(20).toString('hex'), port: await freePort() })));
    shape.sentinels = await Promise.all(ids.map(({ id, port }) => Server.start({
      name: 'sentinel',
      sentinel: true,
      port,
      lines: [
        `sentinel myid ${id}`,
        `sentinel monitor ${NAME} 127.0.0.1 ${first.port} 2`,
        `sentinel auth-user ${NAME} ${SENTINEL.user}`,
        `sentinel auth-pass ${NAME} "${SENTINEL.password}"`,
        `sentinel down-after-milliseconds ${NAME} ${DOWN_AFTER}`,
        `sentinel failover-timeout ${NAME} 5000`,
        `sentinel parallel-syncs ${NAME} 2`,
        ...shape.data.slice(1).map((replica) => `sentinel known-replica ${NAME} 127.0.0.1 ${replica.port}`),
        ...ids.filter((other) => other.id !== id).map((other) => `sentinel known-sentinel ${NAME} 127.0.0.1 ${other.port} ${other.id}`),
      ],
    })));
    await shape.whole();
    return shape;
  }

  get servers() {
    return [...this.data, ...this.sentinels];
  }

  get seeds() {
    return this.sentinels;
  }

  get replicas() {
    return this.data.slice(1);
  }

  /** Another replica, which holds everything when this returns. Sentinels find it by themselves. */
  async attach() {
    const primary = this.sentinels ? await this.primary() : this.data[0];
    const replica = await Server.start({ name: 'replica', password: PASSWORD, lines: [...this.lines, `replicaof 127.0.0.1 ${primary.port}`] });
    this.data.push(replica);
    await replica.follows();
    return replica;
  }

  async detach(replica) {
    this.data = this.data.filter((each) => each !== replica);
    await replica.remove();
    // Or they would wait for it for ever.
    await Promise.all(this.awake.map((sentinel) => sentinel.cli('SENTINEL', 'RESET', NAME)));
  }

  get awake() {
    return this.sentinels.filter((sentinel) => !sentinel.stopped && sentinel.child.process.exitCode === null && sentinel.child.process.signalCode === null);
  }

  /** The server that a Sentinel takes to be the primary. */
  async primary() {
    const [sentinel] = this.awake;
    const [, port] = (await sentinel.cli('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME)).split('\n');
    return this.data.find((server) => server.port === Number(port));
  }

  async primaries() {
    return [await this.primary()];
  }

  /** Waits until all Sentinels see each other and both replicas, and nothing is under way. */
  async whole() {
    for (const sentinel of this.awake) {
      await until(`${sentinel.name} sees everybody`, async () => {
        const lines = (await sentinel.cli('SENTINEL', 'MASTER', NAME)).split('\n');
        const field = (name) => lines[lines.indexOf(name) + 1];
        return field('flags') === 'master' && Number(field('num-slaves')) >= this.data.length - 1 && Number(field('num-other-sentinels')) === this.sentinels.length - 1;
      });
    }
  }

  /** Waits until another server than `old` is the primary: all Sentinels say so, and so does it. Gives it. */
  async promoted(old) {
    return until('another server is promoted', async () => {
      const primary = await this.primary();
      return primary !== old && (await primary.isPrimary()) && primary;
    }, 60_000);
  }

  /** Waits until a server follows the present primary. */
  async joined(server) {
    await until(`${server.name} is demoted`, async () => (await server.isPrimary()) === false, 60_000);
    await server.follows();
  }

  /** A failover that is asked for. Gives the new primary. */
  async failover() {
    const old = await this.primary();
    await until('a failover begins', () => this.awake[0].cli('SENTINEL', 'FAILOVER', NAME), 60_000);
    return this.promoted(old);
  }

  /**
   * Lets Sentinels choose this replica alone, and waits until they know it: they ask every ten seconds. Gives what lets
   * them choose the others as well.
   */
  async prefer(chosen) {
    const old = await this.primary();
    const others = this.data.filter((server) => server !== chosen && server !== old);
    await Promise.all(others.map((server) => server.cli('CONFIG', 'SET', 'replica-priority', 0)));
    const ports = new Set(others.map(({ port }) => `${port}`));
    for (const sentinel of this.awake) {
      await until(`${sentinel.name} knows whom to choose`, async () => {
        const lines = (await sentinel.cli('SENTINEL', 'REPLICAS', NAME)).split('\n');
        const values = (name) => lines.flatMap((line, n) => (line === name ? [lines[n + 1]] : []));
        const priorities = values('slave-priority');
        return values('port').every((port, n) => !ports.has(port) || priorities[n] === '0');
      });
    }
    // Sentinels have each server that they tell of a new primary write its file, with what it has now.
    return () => Promise.all(others.map(async (server) => {
      await server.cli('CONFIG', 'SET', 'replica-priority', 100);
      await server.cli('CONFIG', 'REWRITE');
    }));
  }

  /**
   * A planned failover to `chosen`, by the steps that docs/redis.md has for it: nothing may be lost by it. Gives the new
   * primary.
   */
  async planned(chosen) {
    const old = await this.primary();
    await old.cli('CLIENT', 'PAUSE', 60_000, 'WRITE');
    await until('the replica has all', async () => {
      const [{ master_repl_offset: written }, { slave_repl_offset: held }] = await Promise.all([old.info('replication'), chosen.info('replication')]);
      return written === held;
    });
    await until('a failover begins', () => this.awake[0].cli('SENTINEL', 'FAILOVER', NAME), 5_000);
    const primary = await this.promoted(old);
    // Sentinels do so only after the pause, and would let it take writes for some seconds before.
    await old.cli('REPLICAOF', '127.0.0.1', primary.port);
    await old.cli('CONFIG', 'REWRITE');
    // While it is paused, it takes nothing from its new primary either.
    await old.cli('CLIENT', 'UNPAUSE');
    return primary;
  }

  async end() {
    await Promise.all(this.servers.map((server) => server.remove()));
  }
}
