// A Cluster of three primaries with a replica each.
import { planned } from './planned.js';

const shape = 'cluster';
const loses = { loses: true };

/** A slot with traffic, and its primary: `preferred`, if it has one. */
async function busy(stage, preferred) {
  const primaries = await stage.shape.primaries();
  for (const server of [...primaries.filter((each) => each === preferred), ...primaries]) {
    for (const room of stage.rooms) {
      const [key] = (await server.cli('--scan', '--pattern', `carillon:h:*:${room}`)).split('\n').filter(Boolean);
      if (key) return { slot: await stage.shape.slotOf(key), server };
    }
  }
  throw new Error('no server holds a room');
}

/** How many calls came to a slot that was elsewhere, or on its way. */
async function sentAway(stage) {
  const errors = await Promise.all((await stage.shape.primaries()).map((server) => server.info('errorstats')));
  const count = (text) => Number(/count=(\d+)/.exec(text ?? '')?.[1] ?? 0);
  return errors.flatMap((each) => ['MOVED', 'ASK', 'TRYAGAIN'].map((kind) => count(each[`errorstat_${kind}`]))).reduce((sum, one) => sum + one, 0);
}

export default [
  {
    name: 'cluster-kill',
    shape,
    about: 'The primary of a busy partition is killed, and comes back as a replica.',
    runs: { short: [{ wait: 0, away: true }], long: [{ wait: 0 }, { wait: 'all' }, { wait: 0, away: true }] },
    async run(stage) {
      const { slot, server } = await busy(stage);
      await stage.fault('a primary is killed', async () => {
        stage.lack();
        await server.kill();
        await stage.shape.promoted(server, slot);
      }, loses);
      await stage.flowing();
      await server.restart();
      await stage.shape.agreed();
      stage.ample();
      await stage.flowing();
    },
  },
  {
    name: 'cluster-stop',
    shape,
    about: 'A primary of busy partitions, the first address that services were told of, stands still until another one has its slots, and for 30 s more (3 s in the short form).',
    runs: { short: [{ wait: 0 }], long: [{ wait: 0 }, { wait: 'all' }] },
    async run(stage) {
      const { slot, server } = await busy(stage, stage.shape.seeds[0]);
      await stage.fault('a primary stands still', async () => {
        stage.lack();
        await server.stop();
        await stage.shape.promoted(server, slot);
      }, loses);
      await stage.flowing();
      await stage.pass(stage.long ? 30 : 3);
      server.continue();
      await stage.shape.agreed();
      stage.ample();
      await stage.flowing();
    },
  },
  {
    name: 'cluster-planned',
    shape,
    about: 'Planned failovers of one primary after the other by `CLUSTER FAILOVER`: nothing is lost, though no write waits for a replica.',
    runs: { short: [{ wait: 0 }], long: [{ wait: 0 }, { wait: 0, away: true }] },
    async run(stage) {
      for (const primary of await stage.shape.primaries()) {
        const replica = await stage.shape.replicaOf(primary);
        await planned(stage, `planned failover of ${primary.name}`, () => stage.shape.failover(replica));
        await stage.shape.agreed();
      }
    },
  },
  {
    name: 'cluster-slots',
    shape,
    about: 'Slots of busy partitions are moved to another primary, back, and there again, key by key, under load.',
    runs: { short: [{ wait: 0 }], long: [{ wait: 0 }, { wait: 'all' }] },
    async run(stage) {
      const before = await sentAway(stage);
      for (let n = 0; n < (stage.long ? 4 : 1); n += 1) {
        const { slot, server } = await busy(stage);
        const others = (await stage.shape.primaries()).filter((each) => each !== server);
        const other = others[stage.random.below(others.length)];
        // A slot on its way answers some calls with TRYAGAIN. Nothing may be lost by it; it may take as long as it takes.
        for (const [from, to] of [[server, other], [other, server], [server, other]]) {
          await stage.fault(`slot ${slot} is moved to ${to.name}`, () => stage.shape.move(slot, from, to));
          await stage.flowing();
        }
      }
      stage.expect((await sentAway(stage)) > before, 'no call came to a slot that was moved: nothing was tried');
    },
  },
  {
    name: 'cluster-addresses',
    shape,
    about: 'Primaries are replaced by servers at other addresses, one after the other, until no address that services were told of is left. The short form replaces one primary.',
    runs: { short: [{ wait: 0 }], long: [{ wait: 0 }] },
    async run(stage) {
      const seeds = [...stage.shape.servers];
      const primaries = await stage.shape.primaries();
      for (const primary of stage.long ? primaries : primaries.slice(0, 1)) {
        await stage.fault(`${primary.name} is replaced`, async () => {
          await stage.shape.replace(primary, (server) => stage.fleet.network?.admit(server));
          await stage.shape.agreed();
        }, loses);
        await stage.flowing();
      }
      const left = () => stage.shape.servers.filter((server) => seeds.includes(server));
      if (!stage.long) return stage.expect(left().length === seeds.length - 1, `${left().length} of ${seeds.length} servers were left`);
      for (const replica of left()) {
        await stage.shape.replaceReplica(replica);
        await stage.shape.agreed();
      }
      stage.expect(left().length === 0, `${left().length} servers are where services were told of in the beginning`);
      return stage.flowing();
    },
  },
];
