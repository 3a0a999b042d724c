// What takes long: versions side by side, and half an hour of everything.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';

const shape = 'alone';
/** Minutes of the soak. */
const MINUTES = Number(process.env.CHAOS_SOAK_MINUTES ?? 30);

/** Keys by family, without those of requests that come and go. */
async function families(server) {
  const counts = {};
  for (const key of (await server.cli('--scan', '--pattern', 'carillon:*')).split('\n')) {
    const family = key.split(':')[1];
    if (family !== 'idem' && !key.includes('fresh-')) counts[family] = (counts[family] ?? 0) + 1;
  }
  return counts;
}

/** Resident bytes of a process. */
const resident = (pid) => Number(/VmRSS:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) << 10;

export default [
  {
    name: 'mixed-versions',
    shape,
    about: 'Services of this version and of an older one (`OLD`: a binary) work together, upgraded one by one in one order, and back in the other.',
    runs: { short: [], long: process.env.OLD ? [{}, { away: true }] : [] },
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
    about: `${MINUTES} minutes of traffic in which clients are cut off and services are killed; then no key is left over, and memory is where it was.`,
    setup: () => ({
      fleet: { rooms: '- { match: "*", join: anyone, publish: anyone, history: { size: 500 } }\n', settings: { CARILLON_INGEST__IDEMPOTENCY: '30s' } },
    }),
    runs: { short: [], long: [{}] },
    async run(stage) {
      stage.bounded.push(...stage.rooms);
      const { server } = stage.shape;
      const processes = () => Object.fromEntries([['redis', server.child], ...stage.fleet.services].map(([name, child]) => [name, resident(child.process.pid)]));
      // Histories are full, and what warms up is warm.
      await stage.pass(Math.min(120, MINUTES * 12));
      const keys = await families(server);
      const began = Date.now();
      const ages = new Map();
      for (let round = 0; Date.now() - began < MINUTES * 60_000; round += 1) {
        await stage.pass(20);
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
        if (!await stage.flowing()) return;
        for (const [name, bytes] of Object.entries(processes())) {
          const { pid } = name === 'redis' ? server.child.process : stage.fleet.get(name).process;
          ages.set(`${name} ${pid}`, [...(ages.get(`${name} ${pid}`) ?? []), bytes]);
        }
      }
      for (const [name, sizes] of ages) {
        if (sizes.length < 12) continue;
        const third = Math.floor(sizes.length / 3);
        const highest = (some) => Math.max(...some);
        const [middle, last] = [highest(sizes.slice(third, 2 * third)), highest(sizes.slice(2 * third))];
        stage.expect(last < middle * 1.1 + (4 << 20), `memory of ${name} grew from ${middle} to ${last} bytes in the last third`);
      }
      const left = await families(server);
      for (const [family, count] of Object.entries(left)) stage.expect(count <= (keys[family] ?? 0) + 5, `${count} keys of ${family}, ${keys[family] ?? 0} at the beginning`);
    },
  },
];
