// Separate processes on a real Redis: every client gets exactly its messages, each room in order, while dispatchers come,
// go and die.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { canary } from '../lib/canaries.js';
import { token } from '../lib/jwt.js';
import { Listener } from '../lib/listener.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const CLIENTS = 300;
const ROOMS = 30;
const MESSAGES = 10_000;
const secret = canary('token-key');
const children = [];
let redis;
let settings;
let gateways;
let ingest;

const start = async (kind) => {
  const service = await Service.start(kind, settings);
  children.push(service);
  return service;
};

before(async () => {
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: false, producers: true }\nrooms:\n- { match: "*", join: authenticated, history: { size: 20000, bytes: 64MiB } }\n');
  settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy, CARILLON_IDENTITY__HS256_SECRET: secret };
  gateways = [await start('gateway'), await start('gateway')];
  ingest = await start('ingest');
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

test('300 clients, 30 rooms, 10,000 messages, and dispatchers that come, go and die', async () => {
  const dispatchers = [await start('dispatcher'), await start('dispatcher')];
  await until('they know of each other and have all partitions', async () => {
    const [living, owned] = await Promise.all([['carillon_dispatcher_living'], ['carillon_dispatcher_owned', '"partition"']]
      .map((asked) => Promise.all(dispatchers.map((dispatcher) => dispatcher.metric(...asked)))));
    return living.every((count) => count === 2) && owned[0] + owned[1] === 8;
  });
  const rooms = Array.from({ length: ROOMS }, (_, n) => `room-${n}`);
  // The first ten rooms have members on the first gateway only, the next ten on the second only, the others on both.
  const gatewayOf = (n) => {
    const room = n % ROOMS;
    return room < 20 ? Math.floor(room / 10) : Math.floor(n / ROOMS) % 2;
  };
  const clients = Array.from({ length: CLIENTS }, (_, n) => (
    new Listener(gateways[gatewayOf(n)].url, { rooms: [rooms[n % ROOMS]], token: token(secret, { sub: `u${n}` }), options: { transports: ['websocket'] } })
  ));
  await until('all clients are settled', () => clients.every((client) => client.settled), 90_000);
  const held = clients.map((client, n) => new Set(['all', `user:u${n}`, `session:${client.socket.id}`, rooms[n % ROOMS]]));
  const holders = new Map();
  held.forEach((names, n) => names.forEach((room) => holders.set(room, (holders.get(room) ?? new Set()).add(gatewayOf(n)))));
  const widths = rooms.map((room) => [...holders.get(room)].sort().join());
  assert.deepEqual(['0', '1', '0,1'].map((width) => widths.filter((each) => each === width).length), [10, 10, 10]);

  const producer = new Producer(ingest.ingest);
  const missing = () => {
    const counts = new Map();
    for (const { room } of producer.accepted) counts.set(room, (counts.get(room) ?? 0) + 1);
    return clients.reduce((sum, client, n) => sum + [...held[n]].reduce((more, room) => more + (counts.get(room) ?? 0), 0) - client.received.length, 0);
  };
  // A gateway gets each message once if it holds the room, and not at all if it does not. What it got more than that,
  // it knew and dropped: dispatchers that took over from a dead one handled it again.
  const audit = async (when) => {
    await until(`every message came ${when}`, () => missing() === 0, 60_000).catch((error) => { throw new Error(`${error.message}; ${missing()} missing`); });
    for (const [number, gateway] of gateways.entries()) {
      const expected = producer.accepted.filter(({ room }) => holders.get(room).has(number)).length;
      const frames = await gateway.metric('carillon_gateway_frames_total');
      const repeats = await gateway.metric('carillon_gateway_repeats_dropped_total');
      assert.ok(frames >= expected && frames - expected <= repeats, `gateway ${number} got ${frames} messages ${when}, ${expected} are its and ${repeats} repeats`);
      assert.equal(await gateway.metric('carillon_gateway_frames_unheld_total'), 0);
      assert.ok(expected < producer.accepted.length * 0.75, 'many are not its');
    }
  };
  const padding = canary('payload').padEnd(50, 'x');
  for (let batch = 0; batch < MESSAGES / 100; batch += 1) {
    await producer.batch(Array.from({ length: 100 }, (_, n) => {
      const number = batch * 100 + n;
      const data = { number, padding };
      // One client after the other, of both gateways.
      const one = (Math.floor(number / 200) * 7) % CLIENTS;
      if (number % 200 === 0) return { to: 'all', event: 'news', data };
      if (number % 200 === 1) return { to: { user: `u${one}` }, event: 'you', data };
      if (number % 200 === 2) return { to: { session: clients[one].socket.id }, event: 'now', data };
      return { to: { room: rooms[number % ROOMS] }, event: 'price', data };
    }));
    if (batch === 20) {
      await audit('while the dispatchers stayed the same');
      dispatchers.push(await start('dispatcher'));
    }
    if (batch === 45) await dispatchers[0].stop();
    if (batch === 70) await dispatchers[1].kill();
  }
  assert.equal(producer.accepted.length, MESSAGES);
  await audit('after all');
  clients.forEach((client, n) => {
    assert.deepEqual(client.audit(producer.accepted, [...held[n]]), [], `client ${n}`);
    assert.deepEqual(client.holes, [], `client ${n} has everything`);
    assert.ok(client.received.every(({ room }) => held[n].has(room)), `client ${n} got what is not its`);
    assert.equal(client.connects, 1);
  });
  for (const kind of ['user:', 'session:']) {
    const reached = new Set(producer.accepted.filter(({ room }) => room.startsWith(kind)).flatMap(({ room }) => [...holders.get(room)]));
    assert.equal(reached.size, gateways.length, `${kind} on both gateways`);
  }
  clients.forEach((client) => client.close());
});

test('a room that was left costs its gateway nothing after 30 s', async () => {
  await start('dispatcher');
  const [holding, leaving] = gateways;
  const options = { transports: ['websocket'] };
  const anna = { token: token(secret, { sub: 'anna' }), options };
  const listener = new Listener(holding.url, { rooms: ['left'], ...anna });
  const leaver = new Listener(leaving.url, { rooms: ['left'], ...anna });
  await until('both are settled', () => listener.settled && leaver.settled);
  // Rooms of those who were here before linger, too: only what Redis says is of this room.
  const routes = () => redis.cli('SMEMBERS', redis.cli('--scan', '--pattern', 'carillon:r:*:left').trim());
  assert.ok(routes().includes(leaving.name) && routes().includes(holding.name), routes());
  const producer = new Producer(ingest.ingest);
  const send = async (count) => {
    for (let n = 0; n < count; n += 1) await producer.send({ to: { room: 'left' }, event: 'price', data: n });
    await until('they came', () => listener.of('left').length === producer.accepted.length);
  };
  await send(5);
  await until('they came to both', () => leaver.of('left').length === 5);
  leaver.socket.emit('leave', { room: 'left' });
  await until('the room is let go of', () => !routes().includes(leaving.name), 60_000);
  const frames = await leaving.metric('carillon_gateway_frames_total');
  await send(20);
  assert.equal(await leaving.metric('carillon_gateway_frames_total'), frames);
  assert.equal(await leaving.metric('carillon_gateway_frames_unheld_total'), 0);
  assert.equal(leaver.of('left').length, 5);
  [listener, leaver].forEach((client) => client.close());
});
