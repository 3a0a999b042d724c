// One Redis server, and trouble with it.
import { until } from '../../lib/until.js';
import { Log } from '../log.js';
import { Memory } from '../memory.js';

const shape = 'alone';
const percent = (share) => `${(share * 100).toFixed(1)} %`;
/** Asks for rooms that nobody ever heard of, with names as long as may be, as fast as gateways answer. Gives how it is ended. */
function flood(stage, log) {
  let over = false;
  const work = Promise.all(stage.fleet.of('gateway').flatMap((home) => Array.from({ length: 4 }, async (_, n) => {
    const client = await stage.crowd.client(`flooder-${home}-${n}`, { home, log });
    await until('it is connected', () => client.socket.connected, 60_000);
    for (let asked = 0; !over; asked += 1) {
      const rooms = Array.from({ length: 20 }, (_, m) => `${client.name}-${asked}-${m}-`.padEnd(200, 'x'));
      const answers = await Promise.all(rooms.map((room) => client.join(room)));
      rooms.forEach((room) => client.ask('leave', { room }));
      if (!answers.every((answer) => answer?.ok)) await stage.pass(0.05);
    }
    client.close();
  })));
  work.catch(() => {});
  return () => {
    over = true;
    return work;
  };
}

export default [
  {
    name: 'redis-kill',
    shape,
    about: 'Redis is killed and away for 20 s (5 s in the short form); it has an append-only file.',
    runs: { short: [{ away: true }], long: [{}, { away: true }] },
    async run(stage) {
      const { server } = stage.shape;
      await stage.fault('Redis is away', async () => {
        await server.kill();
        await stage.pass(stage.long ? 20 : 5);
        await server.restart();
        // Alive keys end within 20 s, and nobody could renew them: gateways come back as others.
      }, { cut: stage.long ? stage.fleet.of('gateway') : [] });
      await stage.flowing();
      await stage.pass(2);
    },
  },
  {
    name: 'redis-first-replica',
    shape,
    about: 'A replica is attached to a running primary that had none, taken away, and attached again: nothing may be noticed.',
    runs: { short: [{}], long: [{}] },
    async run(stage) {
      for (let n = 0; n < (stage.long ? 3 : 1); n += 1) {
        const replica = await stage.shape.attach();
        await stage.flowing();
        await stage.pass(stage.long ? 10 : 8);
        await stage.shape.detach(replica);
        await stage.pass(stage.long ? 5 : 1);
      }
      await stage.flowing();
    },
  },
  {
    name: 'redis-replica-away',
    shape,
    about: 'The only replica stands still while every write waits for it: nothing is accepted, joins are answered, nobody is declared dead.',
    setup: () => ({ redis: { replicas: 1 } }),
    runs: { short: [{ wait: 'all' }], long: [{ wait: 'all' }] },
    async run(stage) {
      const [replica] = stage.shape.replicas;
      stage.lack();
      await replica.stop();
      await stage.pass(stage.long ? 30 : 14);
      replica.continue();
      await replica.follows();
      stage.ample();
      await stage.flowing();
    },
  },
  {
    name: 'redis-full',
    shape,
    about: 'Redis fills up: producers and publishing clients are refused at 80 %, joins of new rooms at 90 %, what was accepted is delivered, and all goes on when there is room.',
    setup: () => ({ flow: { bytes: 20_000, rate: 15, retry: 250 }, fleet: { settings: { CARILLON_GATEWAY__EVENTS__RATE: '10000' } } }),
    runs: { short: [{}], long: [{}] },
    async run(stage) {
      const { server } = stage.shape;
      const room = stage.long ? 96 << 20 : 40 << 20;
      const client = stage.crowd.clients[0];
      const memory = await Memory.of(server);
      await stage.fault('Redis is full', async () => {
        await server.cli('CONFIG', 'SET', 'maxmemory', (await memory.used()) + room);
        let refused = false;
        // A client goes on publishing meanwhile.
        const publish = async () => {
          const answer = await client.ask('publish', { room: stage.rooms[0], event: 'said', data: 'x'.repeat(20_000) });
          if (answer && !answer.ok) refused = true;
        };
        const timer = setInterval(publish, 20);
        memory.watch();
        const fills = stage.long ? 240_000 : 60_000;
        await until('producers and clients are refused', () => stage.producers.turnedAway > 0 && refused, fills).catch((error) => stage.expect(false, error.message));
        await stage.pass(stage.long ? 20 : 3);
        clearInterval(timer);
        const filled = memory.most;
        stage.expect(filled > 0.78 && filled < 0.83, `producers filled Redis to ${percent(filled)} of its memory, and their limit is 80 %`);
        // Clients may go on to 90 %. It would take them long from here, so the last part of the way is made shorter.
        const log = new Log();
        await server.cli('CONFIG', 'SET', 'maxmemory', Math.round((await memory.used()) / 0.88));
        memory.watch();
        const ebb = flood(stage, log);
        try {
          const full = () => log.events.filter(({ kind, code }) => kind === 'answered' && code === 'memory_full').length;
          await until('joins are refused', () => full() > 0, 60_000).catch((error) => stage.expect(false, error.message));
          await stage.pass(stage.long ? 20 : 3);
          stage.expect(memory.most > 0.88 && memory.most < 0.93, `joins filled Redis to ${percent(memory.most)} of its memory, and their limit is 90 %`);
        } finally {
          await ebb();
        }
        await server.cli('CONFIG', 'SET', 'maxmemory', 0);
      });
      memory.close();
      await stage.flowing();
    },
  },
  {
    name: 'queue-full',
    shape,
    about: 'Dispatchers stand still until queues are full: what comes on top is refused, and never delivered; then they drain.',
    setup: () => ({ fleet: { settings: { CARILLON_INGEST__QUEUE: '60' } }, flow: { patient: false, rate: 20 } }),
    runs: { short: [{}], long: [{}] },
    async run(stage) {
      for (let n = 0; n < (stage.long ? 3 : 1); n += 1) {
        const before = stage.producers.counts.refused;
        await stage.fault(`queues are full, round ${n + 1}`, async () => {
          for (const name of stage.fleet.of('dispatcher')) stage.fleet.stop(name);
          await until('producers are refused', () => stage.producers.counts.refused > before + 20, 60_000);
          for (const name of stage.fleet.of('dispatcher')) stage.fleet.continue(name);
          await stage.fleet.owned();
        });
        await stage.flowing();
      }
    },
  },
  {
    name: 'history-gone',
    shape,
    about: 'Histories are short, expire, or are thrown away while half of the clients is away: whoever missed something is told.',
    setup: () => ({
      bounded: ['brief', 'fleeting'],
      // What gateways keep in memory would do as well as a history.
      fleet: { settings: { CARILLON_GATEWAY__TAILS: '1KiB' }, rooms: '- { match: brief, join: anyone, history: { size: 5 } }\n- { match: fleeting, join: anyone, history: { size: 1000, age: 1s } }\n' },
    }),
    runs: { short: [{}], long: [{}] },
    async run(stage) {
      const half = stage.crowd.clients.filter((_, n) => n % 2 === 0);
      const told = () => stage.log.events.filter(({ kind, before, recovered }) => kind === 'told' && before && !recovered).length;
      for (let n = 0; n < (stage.long ? 5 : 1); n += 1) {
        stage.crowd.leave(half);
        await stage.pass(4);
        stage.crowd.return(half);
        await stage.flowing();
      }
      const before = told();
      stage.expect(before > 0, 'nobody was told that a history was too short: nothing was tried');
      // Somebody deletes a history. What was in it is gone for who was away.
      stage.bounded.push(stage.rooms[0]);
      stage.crowd.leave(half);
      await stage.pass(1);
      const { server } = stage.shape;
      const [key] = (await server.cli('--scan', '--pattern', `carillon:h:*:${stage.rooms[0]}`)).split('\n');
      await server.cli('DEL', key, key.replace(':h:', ':hb:'));
      stage.crowd.return(half);
      await stage.flowing();
      stage.expect(told() > before, 'nobody was told that a history was deleted: nothing was tried');
    },
  },
  {
    name: 'redis-flushed',
    shape,
    about: 'Everything in Redis is thrown away under load. What was in it is lost; nobody is told that nothing is missing, and all goes on.',
    // What gateways keep in memory would do as well as a history.
    setup: () => ({ fleet: { settings: { CARILLON_GATEWAY__TAILS: '1KiB' } } }),
    runs: { short: [{ away: true }], long: [{}, { away: true }] },
    async run(stage) {
      stage.bounded.push(...stage.rooms);
      const gateways = stage.fleet.of('gateway');
      const died = (gateway) => stage.fleet.sum([gateway], 'carillon_gateway_reincarnations_total');
      let flushed;
      await stage.fault('Redis is flushed', async () => {
        // Who is away misses something, and nobody has it any more.
        await stage.pass(2);
        flushed = stage.log.now;
        await stage.shape.server.cli('FLUSHALL');
        stage.log.add('flushed');
        // The alive keys are gone as well.
        await until('gateways live on as others', async () => (await Promise.all(gateways.map(died))).every((times) => times > 0), 60_000);
        await until('all are ready', () => stage.fleet.names.every((name) => stage.fleet.isReady(name)), 60_000);
        await stage.fleet.owned();
      }, { loses: true, cut: gateways });
      await stage.flowing();
      const told = new Set(stage.log.events.filter(({ kind, at, before, recovered }) => kind === 'told' && at > flushed && before && !recovered).map(({ client }) => client));
      const deceived = stage.away ? stage.crowd.third.filter(({ name }) => !told.has(name)) : [];
      stage.expect(deceived.length === 0, `${deceived.length} of ${stage.crowd.third.length} clients that were away were not told that something is missing`);
      for (const gateway of gateways) stage.expect((await died(gateway)) === 1, `${gateway} was declared dead ${await died(gateway)} times`);
    },
  },
];
