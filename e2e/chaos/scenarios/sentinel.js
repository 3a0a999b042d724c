// A primary with two replicas behind three Sentinels: everything by which another server becomes the primary.
import { until } from '../../lib/until.js';
import { planned } from './planned.js';

const shape = 'sentinel';
/** What the short form tries of `wait_replicas`, and the long form. */
const every = { short: [{ wait: 0 }], long: [{ wait: 0 }, { wait: 1 }, { wait: 'all' }, { wait: 1, away: true }] };
const loses = { loses: true };

/** Counts what is accepted from a promotion on. What it gives expects, before the demotion, that work went on where it could. */
function accepting(stage) {
  const before = stage.producers.counts.accepted;
  return () => {
    const accepted = stage.producers.counts.accepted - before;
    stage.expect(stage.wait >= stage.replicas || accepted > 20, `${accepted} messages were accepted between promotion and demotion: nothing was tried`);
  };
}

export default [
  {
    name: 'sentinel-kill',
    shape,
    about: 'The primary is killed, and comes back as a replica.',
    runs: { ...every, short: [{ wait: 0, away: true }] },
    async run(stage) {
      const old = await stage.shape.primary();
      await stage.fault('the primary is killed', async () => {
        stage.lack();
        await old.kill();
        await stage.shape.promoted(old);
      }, loses);
      await stage.flowing();
      await old.restart();
      await stage.shape.whole();
      await stage.shape.joined(old);
      stage.ample();
      await stage.flowing();
      await stage.pass(stage.long ? 10 : 2);
    },
  },
  {
    name: 'sentinel-stop',
    shape,
    about: 'The primary stands still until another one is promoted, and goes on as if nothing had been.',
    runs: { ...every, short: [{ wait: 'all' }, { wait: 0 }] },
    async run(stage) {
      const old = await stage.shape.primary();
      await stage.fault('the primary stands still', async () => {
        stage.lack();
        await old.stop();
        await stage.shape.promoted(old);
      }, loses);
      const accepted = accepting(stage);
      await stage.flowing();
      await stage.pass(stage.long ? 20 : 1);
      accepted();
      old.continue();
      await stage.shape.joined(old);
      stage.ample();
      await stage.flowing();
      await stage.pass(stage.long ? 10 : 2);
    },
  },
  {
    name: 'sentinel-planned',
    shape,
    about: 'Failovers that are asked for, one after the other.',
    runs: { ...every, short: [{ wait: 1 }] },
    async run(stage) {
      for (let n = 0; n < (stage.long ? 4 : 2); n += 1) {
        stage.lack();
        const old = await stage.shape.primary();
        await stage.fault(`planned failover ${n + 1}`, () => stage.shape.failover(), loses);
        await stage.flowing();
        await stage.shape.joined(old);
        await stage.shape.whole();
        stage.ample();
      }
    },
  },
  {
    name: 'sentinel-planned-steps',
    shape,
    about: 'A planned failover by the steps of the page about Redis: nothing is lost, though no write waits for a replica.',
    runs: { short: [{ wait: 0 }], long: [{ wait: 0 }, { wait: 0, away: true }] },
    async run(stage) {
      for (let n = 0; n < (stage.long ? 3 : 1); n += 1) {
        const old = await stage.shape.primary();
        const replicas = stage.shape.data.filter((server) => server !== old);
        const chosen = replicas[stage.random.below(replicas.length)];
        const undo = await stage.shape.prefer(chosen);
        await planned(stage, `planned failover ${n + 1}`, async () => {
          const primary = await stage.shape.planned(chosen);
          stage.expect(primary === chosen, `Sentinels promoted ${primary.name}, not ${chosen.name}`);
        });
        await undo();
        await stage.shape.joined(old);
        await stage.shape.whole();
      }
    },
  },
  {
    name: 'sentinel-not-demoted',
    shape,
    about: 'Another server is promoted while the old primary, out of the Sentinels\' reach, goes on as a primary.',
    runs: { ...every, short: [{ wait: 'all' }, { wait: 0 }] },
    async run(stage) {
      const old = await stage.shape.primary();
      await stage.fault('the old primary is not demoted', async () => {
        stage.lack();
        await old.shun();
        await stage.shape.promoted(old);
      }, loses);
      const accepted = accepting(stage);
      await stage.pass(stage.long ? 40 : 8);
      accepted();
      await old.admit();
      // Everybody left it long ago, so nothing is lost by this.
      await stage.fault('the old primary is demoted', () => stage.shape.joined(old));
      stage.ample();
      await stage.flowing();
      await stage.pass(2);
    },
  },
  {
    name: 'sentinel-confirmer-lost',
    shape,
    about: 'Another server is promoted, and the only ingest still reaches the old primary alone. It accepts messages there, and is killed before it learns that they are lost.',
    setup: () => ({ fleet: { network: true } }),
    runs: { short: [{ wait: 0 }], long: [{ wait: 0 }, { wait: 0, away: true }] },
    // Nobody alive knows which rooms lost something. Once the dispatchers know that somebody died, every room says so.
    limits: { needless: 1, toldLate: true },
    async run(stage) {
      const old = await stage.shape.primary();
      const ways = stage.shape.servers.filter((server) => server !== old).map((server) => stage.fleet.network.link('ingest-0', server));
      const losses = async () => {
        const marked = await Promise.all(stage.fleet.of('dispatcher').map((name) => stage.fleet.get(name).metric('carillon_redis_unknown_losses_total')));
        return marked.reduce((sum, count) => sum + count, 0);
      };
      await stage.fault('another server is promoted, and who confirmed messages since dies', async () => {
        for (const way of ways) way.refuse();
        await old.shun();
        await stage.shape.promoted(old);
        const accepted = stage.producers.counts.accepted;
        await until('messages are accepted that the new primary never had', () => stage.producers.counts.accepted >= accepted + 20, 20_000);
        await stage.fleet.kill('ingest-0');
        for (const way of ways) way.heal();
        await old.admit();
        await stage.shape.joined(old);
        await stage.fleet.start('ingest-0');
      }, loses);
      await stage.flowing();
      // A process that is not alive counts as dead 15 s after the failover.
      const marked = await until('the partitions are marked', async () => (await losses()) > 0, 40_000).catch(() => 0);
      stage.expect(marked, 'no partition was marked, though the process that confirmed messages died with the server');
      await stage.flowing();
      await stage.pass(2);
    },
  },
  {
    name: 'sentinel-machine-lost',
    shape,
    about: 'The machine with the primary and the first Sentinel is lost: both take connections and answer nothing.',
    runs: { ...every, short: [{ wait: 0 }] },
    async run(stage) {
      const old = await stage.shape.primary();
      const [first] = stage.shape.sentinels;
      await stage.fault('primary and first Sentinel are silent', async () => {
        stage.lack();
        await Promise.all([first.stop(), old.stop()]);
        await stage.shape.promoted(old);
      }, loses);
      await stage.flowing();
      await stage.pass(stage.long ? 64 : 8);
      first.continue();
      old.continue();
      await stage.shape.joined(old);
      await stage.shape.whole();
      stage.ample();
      await stage.flowing();
    },
  },
  {
    name: 'sentinel-silent-sentinel',
    shape,
    about: 'The first Sentinel is silent: services that run stay ready, and new ones start.',
    runs: { ...every, short: [{ wait: 0 }] },
    async run(stage) {
      const [first] = stage.shape.sentinels;
      await first.stop();
      await stage.pass(stage.long ? 64 : 12);
      // Nothing is wrong with Redis, so this is no fault: everything has to go on, and what starts has to start.
      for (const name of ['dispatcher-1', 'gateway-1', 'ingest-0']) {
        await stage.fault(`${name} is started anew`, async () => {
          await stage.fleet.leave(name);
          await stage.fleet.start(name, { ready: false });
          const ready = await until(`${name} is ready`, () => stage.fleet.isReady(name), stage.patience).catch(() => false);
          stage.expect(ready, `${name} did not become ready within ${stage.patience} ms while the first Sentinel was silent`);
        });
      }
      await stage.flowing();
      first.continue();
      await stage.shape.whole();
    },
  },
  {
    name: 'sentinel-replica-comes-and-goes',
    shape,
    about: 'A third replica is attached under load, and one is taken away.',
    runs: { ...every, short: [{ wait: 1 }] },
    async run(stage) {
      for (let n = 0; n < (stage.long ? 3 : 1); n += 1) {
        const replica = await stage.shape.attach();
        await stage.shape.whole();
        await stage.flowing();
        await stage.shape.detach(replica);
        await stage.flowing();
      }
    },
  },
  {
    name: 'sentinel-replica-stopped',
    shape,
    about: 'One replica stands still while every write waits for all: nothing is accepted, nothing is lost, nobody is declared dead.',
    runs: { short: [{ wait: 'all' }], long: [{ wait: 'all' }] },
    async run(stage) {
      const [replica] = (await Promise.all(stage.shape.data.map(async (server) => [server, await server.isPrimary()]))).filter(([, primary]) => primary === false).map(([server]) => server);
      stage.lack();
      await replica.stop();
      await stage.pass(stage.long ? 30 : 14);
      replica.continue();
      await replica.follows();
      stage.ample();
      await stage.flowing();
    },
  },
];
