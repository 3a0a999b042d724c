// What takes long: versions side by side, and half an hour of everything.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { until } from '../../lib/until.js';

const shape = 'alone';
/** Minutes of the soak in its long form. */
const MINUTES = Number(process.env.CHAOS_SOAK_MINUTES ?? 30);

/** Keys by family; what comes and goes, the rooms of joiners and the keys of messages, is counted apart. */
async function families(server) {
  const counts = {};
  for (const key of (await server.cli('--scan', '--pattern', 'carillon:*')).split('\n').filter(Boolean)) {
    const family = key.includes('fresh-') ? 'fresh' : key.split(':')[1];
    counts[family] = (counts[family] ?? 0) + 1;
  }
  return counts;
}

/** Resident bytes of a process. */
const resident = (pid) => Number(/VmRSS:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) << 10;

export default [
  {
    name: 'mixed-versions',
    shape,
    minutes: 4,
    about: 'Services of this version and of an older one (`OLD`: a binary) work together, upgraded one by one in one order, and back in the other.',
    lacks: () => (process.env.OLD ? undefined : '`OLD`, the path of an older binary; docs/chaos.md says how to get one'),
    runs: { short: [], long: [{}, { away: true }] },
    async run(stage) {
      const old = process.env.OLD;
      console.log(`chaos: the older version is ${execFileSync(old, ['--version'], { encoding: 'utf8' }).trim()}`);
      const order = ['dispatcher-0', 'gateway-0', 'ingest-0', 'gateway-1', 'dispatcher-1'];
      for (const [names, binary] of [[order, old], [order, undefined], [[...order].reverse(), old], [[...order].reverse(), undefined]]) {
        for (const name of names) {
          await stage.fault(`${name} becomes ${binary ? 'old' : 'new'}`, async () => {
            await stage.fleet.leave(name);
            await stage.fleet.start(name, { binary });
            await stage.fleet.owned();
          });
          await stage.flowing();
        }
      }
    },
  },
  {
    name: 'soak',
    shape,
    minutes: MINUTES,
    about: `${MINUTES} minutes of traffic (one in the short form) in which clients are cut off and services are killed; then no key is left over, and memory is where it was.`,
    setup: ({ long }) => ({
      fleet: { rooms: `- { match: "*", join: anyone, publish: anyone, history: { size: ${long ? 500 : 100} } }\n`, settings: { CARILLON_INGEST__IDEMPOTENCY: '10s' } },
    }),
    runs: { short: [{}], long: [{}] },
    async run(stage) {
      stage.bounded.push(...stage.rooms);
      const { server } = stage.shape;
      const minutes = stage.long ? MINUTES : 1;
      const processes = () => Object.fromEntries([['redis', server.child], ...stage.fleet.services].map(([name, child]) => [name, resident(child.process.pid)]));
      // Histories are full, and what warms up is warm.
      await stage.pass(Math.min(120, minutes * 15));
      const keys = await families(server);
      const began = Date.now();
      const ages = new Map();
      let flows = true;
      for (let round = 0; flows && Date.now() - began < minutes * 60_000; round += 1) {
        await stage.pass(stage.long ? 20 : 3);
        if (round % 3 === 0) {
          const links = stage.crowd.clients.map(({ link }) => link);
          await stage.fault(`all clients are cut off, round ${round}`, async () => {
            links.forEach((link) => link.refuse());
            await stage.pass(2);
            links.forEach((link) => link.heal());
          });
        } else if (round % 7 === 1) {
          const name = stage.fleet.of('dispatcher')[stage.random.below(2)];
          await stage.fault(`${name} is killed, round ${round}`, async () => {
            await stage.fleet.kill(name);
            await stage.fleet.start(name);
            await stage.fleet.owned();
          });
        }
        flows = await stage.flowing();
        stage.expect(flows, `messages did not flow after round ${round}`);
        for (const [name, bytes] of Object.entries(processes())) {
          const { pid } = name === 'redis' ? server.child.process : stage.fleet.get(name).process;
          ages.set(`${name} ${pid}`, [...(ages.get(`${name} ${pid}`) ?? []), bytes]);
        }
      }
      const watched = [...ages].filter(([, sizes]) => sizes.length >= 9);
      stage.expect(watched.length > 0, 'no process lived long enough to see whether its memory grows');
      for (const [name, sizes] of watched) {
        const third = Math.floor(sizes.length / 3);
        const highest = (some) => Math.max(...some);
        const [middle, last] = [highest(sizes.slice(third, 2 * third)), highest(sizes.slice(2 * third))];
        stage.expect(last < middle * 1.1 + (4 << 20), `memory of ${name} grew from ${middle} to ${last} bytes in the last third`);
      }
      const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);
      // A message has a key where it was claimed and one in its partition, both for 10 s; rooms that nobody is in any more live
      // for half a minute; some come while they are counted.
      const bounds = { idem: 2 * 15 * stage.producers.rate * stage.rooms.length, fresh: 60 * 2 * stage.crowd.joiners.length };
      let left;
      const strays = async () => {
        left = await families(server);
        return Object.entries(left).filter(([family, count]) => count > (bounds[family] ?? (keys[family] ?? 0) + 5));
      };
      await until('no key is left over', async () => (await strays()).length === 0, 60_000).catch(() => {});
      for (const [family, count] of await strays()) stage.expect(false, `${count} keys of ${family}, and ${keys[family] ?? 0} at the beginning`);
      const size = Number(await server.cli('DBSIZE'));
      stage.expect(size <= sum(left) + 100, `Redis has ${size} keys, and ${sum(left)} of them are of Carillon's families`);
    },
  },
];
