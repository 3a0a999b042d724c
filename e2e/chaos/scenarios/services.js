// One Redis server, and trouble with Carillon's own processes and their ways to it.
import { until } from '../../lib/until.js';

const shape = 'alone';
const once = { short: [{}], long: [{}] };
/** Bytes of a producer's message on its way to Redis. */
const message = (bytes) => bytes.includes('"padding"');

/** Waits until the clients of a gateway are elsewhere. */
const moved = (stage, gateway) => until(`nobody is left at ${gateway}`, () => stage.crowd.present.every((client) => client.socket.connected && client.gateway() !== gateway), 60_000);

export default [
  {
    name: 'service-kills',
    shape,
    about: 'A service is killed at random and started again, round after round.',
    runs: { short: [{ away: true }], long: [{}, { away: true }] },
    async run(stage) {
      const kinds = stage.random.deck({ gateway: 0.4, dispatcher: 0.4, ingest: 0.2 }, stage.long ? 20 : 3);
      for (const [n, kind] of kinds.entries()) {
        const names = stage.fleet.of(kind);
        const name = names[stage.random.below(names.length)];
        await stage.fault(`${name} is killed, round ${n + 1}`, async () => {
          await stage.fleet.kill(name);
          await stage.fleet.start(name);
          await stage.fleet.owned();
        });
        await stage.flowing();
      }
    },
  },
  {
    name: 'dispatcher-stop',
    shape,
    about: 'A dispatcher stands still for longer than its leases, and wakes up to find others at its work.',
    runs: { short: [{}], long: [{}, { away: true }] },
    async run(stage) {
      for (let n = 0; n < (stage.long ? 4 : 1); n += 1) {
        const name = `dispatcher-${n % 2}`;
        await stage.fault(`${name} stands still, round ${n + 1}`, async () => {
          stage.fleet.stop(name);
          await stage.fleet.owned();
        }, { only: [name] });
        await stage.flowing();
        stage.fleet.continue(name);
        await stage.pass(stage.long ? 8 : 3);
      }
    },
  },
  {
    name: 'gateway-stop',
    shape,
    about: 'A gateway stands still for longer than its alive key, and wakes up declared dead; its clients went elsewhere.',
    runs: { short: [{}], long: [{}, { away: true }] },
    async run(stage) {
      for (let n = 0; n < (stage.long ? 4 : 1); n += 1) {
        const name = `gateway-${n % 2}`;
        await stage.fault(`${name} stands still, round ${n + 1}`, async () => {
          stage.fleet.stop(name);
          await moved(stage, name);
        }, { cut: [name], only: [name] });
        await stage.flowing();
        // The alive key ends 10 s after its last renewal.
        await stage.pass(12);
        await stage.fault(`${name} goes on, round ${n + 1}`, async () => {
          stage.fleet.continue(name);
          await until(`${name} is ready`, () => stage.fleet.isReady(name), 60_000);
        }, { cut: [name], only: [name] });
        await stage.flowing();
        // They take turns.
        const died = await stage.fleet.sum([name], 'carillon_gateway_reincarnations_total');
        stage.expect(died > n / 2, `${name} was declared dead ${died} times by round ${n + 1}: nothing was tried`);
      }
    },
  },
  {
    name: 'black-hole',
    shape,
    about: 'The way between a service and Redis takes everything and carries nothing, for longer than leases and alive keys last.',
    setup: () => ({ fleet: { network: true } }),
    runs: once,
    async run(stage) {
      const rounds = stage.long ? ['gateway-0', 'dispatcher-0', 'ingest-0', 'gateway-1', 'dispatcher-1'].map((name) => [name]) : [['gateway-0', 'dispatcher-0']];
      for (const names of rounds) {
        const links = names.flatMap((service) => stage.fleet.network.links({ service }));
        const others = stage.fleet.of('dispatcher').filter((name) => !names.includes(name));
        const taken = () => stage.fleet.sum(others, 'carillon_dispatcher_takeovers_total');
        const before = await taken();
        await stage.fault(`${names.join(' and ')} in a black hole`, async () => {
          links.forEach((link) => link.silence());
          await stage.pass(14);
          if (names.some((name) => name.startsWith('dispatcher'))) stage.expect((await taken()) > before, `nobody took over the partitions of ${names.join(' and ')}: nothing was tried`);
          links.forEach((link) => link.heal());
          await until('all are ready', () => stage.fleet.names.every((name) => stage.fleet.isReady(name)), 60_000);
          await stage.fleet.owned();
        }, { cut: names, only: names });
        await stage.flowing();
      }
    },
  },
  {
    name: 'half-open',
    shape,
    about: 'Connections between services and Redis are gone on one side only, and slow on the way.',
    setup: () => ({ fleet: { network: true } }),
    runs: once,
    async run(stage) {
      for (const service of stage.fleet.names) {
        const links = stage.fleet.network.links({ service });
        await stage.fault(`connections of ${service} are half open`, async () => {
          links.forEach((link) => link.halve());
          await stage.pass(stage.long ? 10 : 4);
          links.forEach((link) => link.heal());
          await until('all are ready', () => stage.fleet.names.every((name) => stage.fleet.isReady(name)), 60_000);
          await stage.fleet.owned();
        }, { cut: [service], only: [service] });
      }
      await stage.flowing();
      const links = stage.fleet.network.links();
      links.forEach((link) => { link.delay(50); link.throttle(512 << 10); });
      await stage.pass(stage.long ? 20 : 4);
      links.forEach((link) => link.heal());
    },
  },
  {
    name: 'ingest-cut',
    shape,
    about: 'Connections between ingest and Redis are cut at random, before Redis has the command and after; keys keep a message one message.',
    setup: () => ({ fleet: { network: true } }),
    runs: once,
    async run(stage) {
      const links = stage.fleet.network.links({ service: 'ingest-0' });
      const chance = (bytes) => message(bytes) && stage.random.next() < 0.25;
      for (let n = 0; n < (stage.long ? 6 : 2); n += 1) {
        for (const way of ['cutBefore', 'cutAfter']) {
          await stage.fault(`${way} ${n + 1}`, async () => {
            links.forEach((link) => link[way](chance));
            await stage.pass(stage.long ? 5 : 1.5);
            links.forEach((link) => link.heal());
          });
        }
        await stage.flowing();
      }
      const cut = stage.log.events.filter(({ kind, tries }) => kind === 'sent' && tries > 1).length;
      stage.expect(cut > 0, 'no producer had to repeat anything: nothing was tried');
    },
  },
  {
    name: 'rolling-term',
    shape,
    about: 'Every service is asked to go and another takes its place, one after the other, as a deploy does.',
    setup: ({ long }) => ({
      fleet: { counts: { ingest: 2, gateway: 3 }, settings: { CARILLON_GATEWAY__DRAIN__TIMEOUT: long ? '30s' : '5s' } },
      ...(long && { crowd: { clients: 2_000 }, flow: { rate: 1 } }),
    }),
    runs: once,
    async run(stage) {
      const names = stage.long ? stage.fleet.names : ['gateway-0', 'dispatcher-0', 'ingest-0'];
      for (const name of names) {
        // No fault: a deploy may not be noticed.
        await stage.fleet.leave(name);
        await stage.fleet.start(name);
        await stage.flowing();
      }
    },
  },
];
