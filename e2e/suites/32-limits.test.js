// Limits: what is too much gets its own code, is counted, and hurts nobody else.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { canary } from '../lib/canaries.js';
import { token } from '../lib/jwt.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const secret = canary('token-key');
const children = [];
const sockets = [];
let settings;

const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};
const connect = (gateway, user, options = {}) => {
  const auth = user ? { token: token(secret, { sub: user }) } : {};
  const socket = io(gateway.url, { auth, forceNew: true, transports: ['websocket'], ...options });
  sockets.push(socket);
  return socket;
};
const connected = (socket) => until('connected', () => socket.connected);
const refused = (gateway, code) => gateway.metric('carillon_gateway_handshakes_refused_total', `code="${code}"`);
const closed = (gateway, reason) => gateway.metric('carillon_gateway_sessions_closed_total', `reason="${reason}"`);

before(async () => {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: true }\nrooms:\n- { match: "*", join: anyone, publish: anyone }\n');
  settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy, CARILLON_IDENTITY__HS256_SECRET: secret };
  await start('dispatcher');
});
after(async () => {
  sockets.forEach((socket) => socket.close());
  for (const child of children.reverse()) await child.kill();
});

test('sessions of the process: the one too many comes back by itself when there is a place', async () => {
  const gateway = await start('gateway', { CARILLON_GATEWAY__SESSIONS: '2' });
  const first = connect(gateway);
  await connected(first);
  await connected(connect(gateway));
  const third = connect(gateway, undefined, { reconnectionDelay: 50, reconnectionDelayMax: 100 });
  await until('it is refused', async () => (await refused(gateway, 'gateway_full')) > 0);
  assert.equal(third.connected, false);
  first.close();
  await connected(third);
});

test('sessions of a user: a final refusal with a code, and others are not concerned', async () => {
  const gateway = await start('gateway', { CARILLON_GATEWAY__SESSIONS_PER_USER: '2' });
  const one = connect(gateway, 'ann');
  await connected(one);
  await connected(connect(gateway, 'ann'));
  const third = connect(gateway, 'ann');
  const error = await new Promise((resolve) => { third.on('connect_error', resolve); });
  assert.match(error.message, /^too_many_sessions: /);
  assert.equal(third.active, false, 'a stock client does not try again');
  assert.equal(await refused(gateway, 'too_many_sessions'), 1);
  await connected(connect(gateway, 'ben'));
  one.close();
  await until('the place is free', async () => (await closed(gateway, 'client_gone')) >= 1);
  third.connect();
  await connected(third);
});

test('connects per second: all are in in the end, later', async () => {
  const gateway = await start('gateway', { CARILLON_GATEWAY__CONNECTS: '5' });
  const crowd = Array.from({ length: 20 }, (_, n) => connect(gateway, undefined, {
    reconnectionDelay: 100, reconnectionDelayMax: 500, transports: n % 2 ? ['websocket'] : ['polling', 'websocket'],
  }));
  await until('everybody is in', () => crowd.every((socket) => socket.connected));
  assert.ok((await refused(gateway, 'connect_rate')) > 0);
  const answers = await Promise.all(Array.from({ length: 12 }, () => fetch(`${gateway.url}/socket.io/?EIO=4&transport=polling`)));
  const late = answers.find(({ status }) => status === 503);
  assert.equal(late.headers.get('retry-after'), '1');
  assert.equal((await late.json()).code, 'connect_rate');
});

test('events per second: told when to go on, and closed only for a flood', async () => {
  const gateway = await start('gateway', { CARILLON_GATEWAY__EVENTS__RATE: '50', CARILLON_GATEWAY__EVENTS__BURST: '10' });
  const quick = connect(gateway);
  const other = connect(gateway);
  await connected(quick);
  await connected(other);
  const ask = (socket, event, argument) => socket.timeout(10_000).emitWithAck(event, argument);
  const publish = (socket) => ask(socket, 'publish', { room: 'lobby', event: 'tick', data: 1 });
  const answers = await Promise.all(Array.from({ length: 30 }, () => publish(quick)));
  assert.ok(answers.filter(({ ok }) => ok).length >= 10);
  const { error } = answers.find(({ ok }) => !ok);
  assert.equal(error.code, 'rate_limited');
  assert.ok(error.retry_after_ms >= 1 && error.retry_after_ms <= 1_000, `${error.retry_after_ms}`);
  await new Promise((resolve) => { setTimeout(resolve, error.retry_after_ms + 20); });
  await until('it goes on', async () => (await publish(quick)).ok);
  assert.ok((await gateway.metric('carillon_gateway_client_requests_refused_total', 'code="rate_limited"')) > 0);
  assert.equal(await closed(gateway, 'flooding'), 0);

  const reasons = [];
  quick.on('disconnect', (reason) => reasons.push(reason));
  for (let n = 0; n < 300; n += 1) quick.emit('publish', { room: 'lobby', event: 'tick', data: n });
  await until('it was closed', async () => (await closed(gateway, 'flooding')) === 1);
  await until('it comes back by itself', () => reasons.length === 1 && quick.connected);
  assert.match(reasons[0], /transport/);
  assert.equal((await publish(other)).ok, true);
});

test('rooms and payload: a code, a reason, and others go on', async () => {
  const gateway = await start('gateway', { CARILLON_GATEWAY__ROOMS_PER_SESSION: '3', CARILLON_GATEWAY__FRAME: '80KiB', CARILLON_INGEST__MESSAGE: '16KiB' });
  const socket = connect(gateway);
  const other = connect(gateway);
  await connected(socket);
  await connected(other);
  const ask = (event, argument) => socket.timeout(10_000).emitWithAck(event, argument);
  for (const n of [1, 2, 3]) assert.equal((await ask('join', { room: `room-${n}` })).ok, true);
  assert.equal((await ask('join', { room: 'room-4' })).error.code, 'too_many_rooms');
  const data = 'x'.repeat(20_000);
  assert.equal((await ask('publish', { room: 'lobby', event: 'big', data })).error.code, 'too_large');
  for (const code of ['too_many_rooms', 'too_large']) {
    const counted = async (name) => gateway.metric(name, `"${code}"`);
    assert.ok(await counted('carillon_gateway_client_requests_refused_total') + await counted('carillon_gateway_publishes_total'), code);
  }
  const [reasons, others] = [[], []];
  socket.on('disconnect', (reason) => reasons.push(reason));
  other.on('disconnect', (reason) => others.push(reason));
  socket.emit('publish', { room: 'lobby', event: 'huge', data: 'x'.repeat(100_000) });
  await until('it was closed', async () => (await closed(gateway, 'frame_too_large')) === 1);
  await until('it comes back by itself', () => reasons.length === 1 && socket.connected);
  assert.match(reasons[0], /^transport (close|error)$/);
  assert.equal((await other.timeout(10_000).emitWithAck('publish', { room: 'lobby', event: 'small', data: 1 })).ok, true);
  assert.deepEqual(others, []);
  assert.equal(await closed(gateway, 'frame_too_large'), 1);
});
