// Clients that ask for much, read little, or all come at once.
import { post } from '../../lib/producer.js';
import { until } from '../../lib/until.js';
import { Log } from '../log.js';

const shape = 'alone';
const once = { short: [{}], long: [{}] };
/** Milliseconds that a read of history takes in a storm: long enough to be shared, and short beside what calls may take (1 s). */
const READ = 300;
/** What a phone in a tunnel does: its connection stands, and nobody reads from it. */
const reading = (client, so) => client.socket.io.engine?.transport.ws?._socket?.[so ? 'resume' : 'pause']();

export default [
  {
    name: 'rewinds',
    shape,
    about: 'A hundred clients (30 in the short form) ask for rewinds and histories as fast as they are answered; the others notice nothing.',
    runs: once,
    async run(stage) {
      const count = stage.long ? 100 : 30;
      const [reads, answers] = ['carillon_gateway_newest_reads_total', 'carillon_gateway_history_requests_total'].map((metric) => () => stage.fleet.sum('gateway', metric));
      const hogs = await Promise.all(Array.from({ length: count }, (_, n) => stage.crowd.client(`hog-${n}`, { home: stage.fleet.of('gateway')[n % 2], log: new Log() })));
      await until('they are connected', () => hogs.every((hog) => hog.socket.connected), 60_000);
      let over = false;
      const work = hogs.map(async (hog, n) => {
        for (let asked = n; !over; asked += 1) {
          const room = stage.rooms[asked % stage.rooms.length];
          await hog.emit('join', { room, rewind: 100 });
          await hog.emit('history', { room, limit: 100 });
          await stage.pass(stage.long ? 0.02 : 0.25);
        }
      });
      // No fault: what others ask for is none of theirs.
      await stage.pass(stage.long ? 60 : 6);
      over = true;
      await Promise.all(work);
      hogs.forEach((hog) => hog.close());
      const [read, answered] = [await reads(), await answers()];
      stage.expect(answered >= 10 * count, `${count} clients got ${answered} answers only: nothing was tried`);
      stage.expect(read >= 2 * stage.rooms.length, `history was read ${read} times only: nothing was tried`);
      stage.expect(read <= 0.9 * answered, `history was read ${read} times for ${answered} answers: equal requests did not share reads`);
      await stage.flowing();
    },
  },
  {
    name: 'slow-readers',
    shape,
    about: 'A quarter of the clients stop reading until each fell behind; the others get everything in time, and those catch up on the same connection when they read again.',
    // Messages that sockets can't hold for long, and no ping that ends a connection that stands.
    setup: ({ long }) => ({
      crowd: { clients: long ? 200 : 32 },
      flow: { bytes: 40_000, rate: long ? 2 : 8 },
      fleet: { settings: { CARILLON_GATEWAY__OUTBOX: '256KiB', CARILLON_GATEWAY__PING__TIMEOUT: '5m' } },
    }),
    runs: once,
    async run(stage) {
      const slow = stage.crowd.clients.filter((_, n) => n % 4 === 0);
      const behind = () => stage.fleet.sum('gateway', 'carillon_gateway_sessions_fell_behind_total');
      const before = await behind();
      for (const client of slow) {
        client.deaf = true;
        stage.log.add('left', { client: client.name });
        reading(client, false);
      }
      // Each is in two rooms, and falls behind once in each.
      await until('all fell behind', async () => (await behind()) - before >= 2 * slow.length, 3 * stage.patience).catch(() => {});
      const fell = (await behind()) - before;
      stage.expect(fell >= 2 * slow.length, `${slow.length} clients in two rooms each fell behind ${fell} times only`);
      await stage.flowing();
      await stage.pass(stage.long ? 30 : 2);
      for (const client of slow) {
        reading(client, true);
        client.deaf = false;
      }
      // They have to catch up: each takes as long as it takes.
      await stage.flowing();
      for (const client of slow) stage.log.add('returned', { client: client.name });
      await stage.flowing();
      const gone = new Set(stage.log.events.filter(({ kind }) => kind === 'disconnected').map(({ client }) => client));
      stage.expect(!slow.some(({ name }) => gone.has(name)), 'a client that did not read lost its connection: it came back, and did not catch up');
    },
  },
  {
    name: 'client-cuts',
    shape,
    about: 'Every client is cut off for 2 s, again and again.',
    runs: once,
    async run(stage) {
      const links = [...stage.crowd.clients, ...stage.crowd.joiners].map(({ link }) => link);
      for (let n = 0; n < (stage.long ? 10 : 2); n += 1) {
        await stage.fault(`all clients are cut off, round ${n + 1}`, async () => {
          const how = stage.random.below(2) ? 'refuse' : 'silence';
          links.forEach((link) => link[how]());
          await stage.pass(2);
          links.forEach((link) => link.heal());
          await until('all are back', () => stage.crowd.clients.every((client) => client.socket.connected), 60_000);
        });
        await stage.flowing();
      }
    },
  },
  {
    name: 'reconnect-storm',
    shape,
    about: 'All of 5,000 clients (150 in the short form) come back at once with cursors, and memory has nothing for them: history is read for all who wait for a room together, not once per client.',
    setup: ({ long }) => ({ crowd: { clients: long ? 5_000 : 150, direct: true }, flow: { rate: long ? 1 : 4 }, fleet: { network: true, settings: { CARILLON_GATEWAY__CONNECTS: '10000', CARILLON_GATEWAY__TAILS: '1KiB' } } }),
    runs: once,
    async run(stage) {
      const reads = () => stage.fleet.sum('gateway', 'carillon_gateway_history_reads_total');
      const { clients } = stage.crowd;
      const links = stage.fleet.of('gateway').flatMap((service) => stage.fleet.network.links({ service }));
      for (let n = 0; n < (stage.long ? 3 : 1); n += 1) {
        let before;
        let took;
        await stage.fault(`everybody is away and comes back, round ${n + 1}`, async () => {
          stage.crowd.leave(clients);
          await stage.pass(3);
          before = await reads();
          const told = clients.map((client) => client.told);
          // A read that takes no time is shared by nobody.
          links.forEach((link) => link.delay(READ / 2));
          const began = performance.now();
          stage.crowd.return(clients);
          await until('all know where they are', () => clients.every((client, m) => client.told >= told[m] + client.rooms.length), 60_000);
          took = performance.now() - began;
          links.forEach((link) => link.heal());
        });
        const read = (await reads()) - before;
        await stage.flowing();
        // At each gateway one read of a room is under way, and who comes meanwhile waits for the next; joiners' rooms are empty.
        const rooms = stage.rooms.length * stage.fleet.of('gateway').length;
        const bound = rooms * (1 + Math.ceil(took / READ));
        stage.expect(read >= rooms, `history was read ${read} times only: nothing was tried`);
        stage.expect(read <= bound, `history was read ${read} times, not ${bound}, for ${clients.length} clients, ${stage.rooms.length} rooms and 2 gateways in ${Math.round(took)} ms`);
      }
    },
  },
  {
    name: 'overrun',
    shape,
    about: 'A gateway does not read its channel until that is full and emptied; it catches every room up.',
    setup: () => ({ fleet: { network: true, settings: { CARILLON_DISPATCHER__CHANNEL: '64KiB' } }, flow: { bytes: 5_000 } }),
    runs: once,
    async run(stage) {
      const gateway = stage.fleet.get('gateway-0');
      for (let n = 0; n < (stage.long ? 5 : 1); n += 1) {
        const before = await gateway.metric('carillon_gateway_overruns_total');
        const links = stage.fleet.network.links({ service: 'gateway-0' });
        await stage.fault(`the channel of gateway-0 is not read, round ${n + 1}`, async () => {
          links.forEach((link) => link.delay(2_500));
          await stage.pass(5);
          links.forEach((link) => link.heal());
          await until('gateway-0 is ready', () => stage.fleet.isReady('gateway-0'), 60_000);
        }, { cut: ['gateway-0'] });
        await stage.flowing();
        stage.expect((await gateway.metric('carillon_gateway_overruns_total')) > before, 'the channel was never overrun: nothing was tried');
      }
    },
  },
  {
    name: 'many-rooms',
    shape,
    about: 'A client in as many rooms as it may join does what the guide says, is cut off, comes back, and is in all of them again.',
    runs: once,
    async run(stage) {
      const client = await stage.crowd.client('collector', { home: 'gateway-0' });
      await until('it is connected', () => client.socket.connected);
      const shelves = Array.from({ length: 200 }, (_, n) => `shelf-${n}`);
      for (const [n, room] of shelves.entries()) {
        const answer = await client.join(room);
        if (!answer?.ok) return stage.expect(false, `join ${n + 1} of 200 was answered ${JSON.stringify(answer)}`);
        if (n % 50 === 49) await stage.pass(1);
      }
      client.link.cut();
      await until('it left', () => !client.socket.connected);
      const back = await until('it is back', () => client.socket.connected, stage.patience).catch(() => false);
      stage.expect(back, 'a client in 200 rooms did not come back');
      // That it is in all of them is seen by what comes there.
      for (const room of shelves) await until(`something is sent to ${room}`, async () => (await post(stage.fleet.ingest().ingest, { to: { room }, event: 'tick', data: { n: 1 } })).status === 202);
      const without = () => shelves.filter((room) => !client.last.has(room));
      await until('it has a message of each', () => without().length === 0, stage.patience).catch(() => {});
      stage.expect(without().length === 0, `a client that came back to ${shelves.length} rooms got nothing in ${without().length}: ${without().slice(0, 3)}`);
      return client.close();
    },
  },
];
