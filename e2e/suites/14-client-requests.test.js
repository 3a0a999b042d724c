// What clients ask for: it reaches Redis only when it was authorized, bounded, and at nobody else's expense. And a client
// that does what the guide says comes back, in however many rooms it may be.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { canary } from '../lib/canaries.js';
import { CursorClient } from '../lib/cursors.js';
import { token } from '../lib/jwt.js';
import { Listener } from '../lib/listener.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Proxy } from '../lib/proxy.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const CLIENTS = 100;
const MESSAGES = 40;
const secret = 'what signs tokens here';
const greatest = '18446744073709551615-18446744073709551615';
const children = [];
const sockets = [];
let redis;
let settings;
let gateway;
let other;
let producer;

const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};

before(async () => {
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, [
    'anonymous: { sessions: true, producers: true }',
    'rooms:',
    '- { match: "secret*", join: nobody, history: { size: 1000 } }',
    '- { match: "*", join: anyone, publish: anyone, history: { size: 1000 } }',
    '',
  ].join('\n'));
  settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policy,
    CARILLON_IDENTITY__HS256_SECRET: secret,
    CARILLON_GATEWAY__FORWARDING__SECRET: canary('forwarding-secret'),
  };
  [gateway, other] = [await start('gateway'), await start('gateway')];
  const dispatcher = await start('dispatcher');
  // Who joins a room before its partition begins is told `false` at the first message: true, and not what is tried here.
  await until('it owns all partitions', async () => (await dispatcher.metric('carillon_dispatcher_owned', '"partition"')) === 8);
  producer = new Producer((await start('ingest')).ingest);
  for (const room of ['lobby', 'secret', 'broken']) {
    for (let n = 0; n < MESSAGES; n += 1) await producer.send({ to: { room }, event: 'price', data: n });
  }
});
after(async () => {
  sockets.forEach((socket) => socket.close());
  for (const child of children.reverse()) await child.kill();
});

const connect = async (service) => {
  const socket = io(service.url, { transports: ['websocket'], forceNew: true });
  sockets.push(socket);
  await until('it is connected', () => socket.connected);
  return socket;
};
const ask = (socket, event, argument) => socket.timeout(20_000).emitWithAck(event, argument);

/** How often Redis ran a command, in scripts too. */
const calls = (command) => Number(new RegExp(`^cmdstat_${command}:calls=(\\d+)`, 'm').exec(redis.cli('INFO', 'commandstats'))?.[1] ?? 0);
const newest = () => gateway.metric('carillon_gateway_newest_reads_total');

test('100 clients look back into rooms they may and may not have, and nobody else notices', { timeout: 180_000 }, async () => {
  const witness = new Listener(gateway.url, { rooms: ['live'] });
  await until('the witness is settled', () => witness.settled);
  const flow = producer.flow(50, (number) => ({ to: { room: 'live' }, event: 'tick', data: number }));
  const clients = [];
  for (let n = 0; n < CLIENTS; n += 1) clients.push(await connect(gateway));
  const lives = await gateway.metric('carillon_gateway_reincarnations_total');

  // A room they may not have costs Redis nothing.
  const untouched = [calls('xrevrange'), await newest()];
  const refused = await Promise.all(clients.flatMap((socket) => [
    ask(socket, 'join', { room: 'secret', rewind: 100 }),
    ask(socket, 'history', { room: 'secret' }),
    ask(socket, 'history', { room: 'lobby' }),
    ask(socket, 'join', { room: 'user:somebody', rewind: 1 }),
  ]));
  assert.deepEqual([...new Set(refused.map(({ error }) => error?.code))].sort(), ['forbidden', 'not_joined', 'reserved_room']);
  assert.deepEqual([calls('xrevrange'), await newest()], untouched);

  // Equal rewinds are few reads.
  const heard = clients.map((socket) => {
    const data = [];
    socket.on('price', (number) => data.push(number));
    return data;
  });
  const rewound = await Promise.all(clients.map((socket) => ask(socket, 'join', { room: 'lobby', rewind: 20 })));
  assert.ok(rewound.every(({ ok, recovered }) => ok && recovered), JSON.stringify(rewound.find(({ ok }) => !ok)));
  const expected = Array.from({ length: 20 }, (_, n) => MESSAGES - 20 + n);
  await until('all have the last 20', () => heard.every((data) => data.length === 20));
  heard.forEach((data) => assert.deepEqual(data, expected));
  const cost = (await newest()) - untouched[1];
  assert.ok(cost >= 1 && cost <= CLIENTS / 5, `${CLIENTS} equal rewinds took ${cost} reads`);

  // Different ones are bounded, and each is answered.
  const offsets = producer.accepted.filter(({ room }) => room === 'lobby').map(({ offset }) => offset);
  const answers = await Promise.all(clients.flatMap((socket, client) => Array.from({ length: 20 }, (_, n) => (
    ask(socket, 'history', { room: 'lobby', before: offsets[(client + n) % offsets.length] })
  ))));
  for (const { ok, error } of answers) assert.ok(ok || (error.code === 'busy' && error.retry_after_ms > 0), JSON.stringify(error));
  assert.ok(answers.some(({ ok, messages }) => ok && messages.length > 0));
  assert.deepEqual((await ask(clients[0], 'history', { room: 'lobby', before: '0-0' })).messages, []);
  assert.equal((await ask(clients[0], 'history', { room: 'lobby', before: greatest })).messages.length, MESSAGES);

  await flow.stop();
  const { offset: last } = producer.accepted.findLast(({ room }) => room === 'live');
  await until('the witness has the last', () => witness.of('live').at(-1)?.offset === last);
  assert.deepEqual(witness.audit(producer.accepted, ['live']), []);
  assert.deepEqual(witness.holes, []);
  assert.equal(witness.disconnects, 0);
  assert.equal(await gateway.metric('carillon_gateway_reincarnations_total'), lives, 'it was never declared dead');
  assert.deepEqual((await gateway.readiness()).ok, true);
  witness.close();
});

test('a cursor nobody can have had, and a history that can\'t be read, concern nobody else', { timeout: 120_000 }, async () => {
  const offsets = producer.accepted.filter(({ room }) => room === 'broken').map(({ offset }) => offset);
  const [odd, sound] = [await connect(other), await connect(other)];
  // The first alone, so that its read is of its cursor.
  const told = await ask(odd, 'join', { room: 'broken', since: greatest });
  assert.deepEqual([told.ok, told.recovered], [true, false], JSON.stringify(told));
  const joined = await ask(sound, 'join', { room: 'broken', since: offsets[3] });
  assert.deepEqual([joined.ok, joined.recovered, joined.offset], [true, true, offsets[3]], JSON.stringify(joined));

  const [key] = redis.cli('--scan', '--pattern', '*h:{*}:broken').trim().split('\n');
  redis.cli('XADD', key, '*', 'e', 'no entry of ours');
  const third = await start('gateway');
  const socket = await connect(third);
  const late = await ask(socket, 'join', { room: 'broken', since: offsets[3] });
  assert.deepEqual([late.ok, late.recovered], [true, false], JSON.stringify(late));
  assert.equal((await ask(socket, 'history', { room: 'broken' })).error?.code, 'unavailable');
  const lobby = await ask(socket, 'join', { room: 'lobby', rewind: 1 });
  assert.deepEqual([lobby.ok, lobby.recovered], [true, true], JSON.stringify(lobby));
});

test('ids that nobody gave cost Redis nothing', { timeout: 120_000 }, async () => {
  /** How often Redis was asked who lives while processes reported themselves so often. */
  const asked = async (meanwhile) => {
    const [reports, lives] = [calls('hset'), calls('exists')];
    while (calls('hset') < reports + 10) await meanwhile();
    return (calls('exists') - lives) / (calls('hset') - reports);
  };
  const rest = await asked(() => new Promise((resolve) => { setTimeout(resolve, 50); }));
  let invented = 0;
  const busy = await asked(() => Promise.all(Array.from({ length: 50 }, async () => {
    invented += 1;
    const answer = await fetch(`${gateway.url}/socket.io/?EIO=4&transport=polling&sid=gateway-${invented}.${'A'.repeat(16 + (invented % 2) * 22)}`);
    assert.equal(answer.status, 503);
    assert.equal((await answer.json()).code, 'session_gone');
  })));
  assert.ok(invented > 500, `${invented}`);
  assert.ok(busy < rest * 1.5 + 1, `per report ${rest} calls at rest, ${busy} with ${invented} invented ids`);
});

for (const language of ['JavaScript, socket.io-client 4', 'JavaScript, socket.io-client 2']) {
  test(`${language}: a client in as many rooms as it may be comes back and misses nothing`, { timeout: 180_000 }, async (coming) => {
    const user = `many ${language.at(-1)}`;
    const proxy = await Proxy.start(gateway.gatewayPort);
    coming.after(() => proxy.close());
    const rooms = Array.from({ length: 200 }, (_, n) => `${user}-room-${n}`);
    const own = ['all', `user:${user}`, ...rooms];
    const client = new CursorClient(language, { url: proxy.url, token: token(secret, { sub: user }), transports: ['websocket'], rooms });
    coming.after(() => client.close());
    const is = (what, condition) => until(`${what}; it said: ${client.errors}`, condition, 60_000);
    await is('it is told where it is in all its rooms', () => own.every((room) => client.since[room]));
    for (let round = 0; round < 2; round += 1) {
      const { connects, disconnects } = client;
      proxy.away();
      await is('it is away', () => client.disconnects > disconnects);
      await producer.batch(own.map((room) => ({ to: { room }, event: 'price', data: round })));
      proxy.refusing = false;
      await is('it is back', () => client.connects > connects);
      await is('it has everything', () => own.every((room) => client.of(room).length === round + 1)).catch(() => {});
      assert.deepEqual(client.audit(producer.accepted.filter(({ room }) => rooms.includes(room) || room === own[1]), own.slice(1)), []);
      assert.deepEqual(client.holes, [], 'history proves that all is complete');
      assert.equal(client.of('all').length, round + 1);
    }
  });
}
