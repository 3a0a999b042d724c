// Bad input gets a clear error and loses nothing.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { canary } from '../lib/canaries.js';
import { Listener } from '../lib/listener.js';
import { post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { refused } from '../lib/refusal.js';
import { until } from '../lib/until.js';

const children = [];
let redis;
let gateway;
let ingest;
let dispatcher;
let witness;
const key = canary('producer-key');
const authorization = { authorization: `Bearer ${key}` };

before(async () => {
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, [
    'anonymous: { sessions: true }',
    'rooms:',
    '- { match: closed, join: nobody, publish: nobody }',
    '- { match: "*", join: anyone, publish: anyone }',
    'producers:',
    `- { name: billing, key_sha256: "${createHash('sha256').update(key).digest('hex')}", rooms: ["lobby*", all] }`,
    'intake: { lists: [ { list: message, room: all, event: "chat message" } ] }',
  ].join('\n'));
  const settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy };
  for (const kind of ['gateway', 'dispatcher', 'ingest']) {
    const service = await Service.start(kind, settings);
    children.push(service);
    if (kind === 'gateway') gateway = service;
    if (kind === 'ingest') ingest = service;
    if (kind === 'dispatcher') dispatcher = service;
  }
  witness = new Listener(gateway.url, { rooms: ['lobby', 'lobby-0'] });
  await until('settled', () => witness.settled);
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

const message = { to: { room: 'lobby' }, event: 'price', data: canary('payload') };
const problem = (name) => `https://carillon.dev/problems/${name}`;
const invalid = (field) => ({ type: problem('invalid'), status: 422, field });
const over = (limit, allowed) => ({ type: problem('too-large'), status: 413, limit, allowed });
// Each with what its answer names: a line, a field, a room or a limit.
const refusals = [
  ['malformed JSON', `{"to": "all", "data": "${canary('payload')}",\n "event": }`, { type: problem('malformed'), status: 400, line: 2, column: 11 }],
  ['an unknown field', { ...message, colour: 'red' }, { ...invalid('colour'), line: 1 }],
  ['a wrong type', { ...message, event: 7 }, { ...invalid('event'), line: 1 }],
  ['a bad room name', { ...message, to: { room: 'a\u0007b' } }, invalid('to.room')],
  ['a bad room name in a batch', [message, { ...message, to: { rooms: ['lobby', ''] } }], invalid('[1].to.rooms[1]')],
  ['a field of later work', { ...message, ttl: '30s' }, invalid('ttl')],
  ['a room not allowed', { ...message, to: { room: 'secret' } }, { type: problem('forbidden'), status: 403, room: 'secret', field: 'to' }],
  ['too much data', { ...message, data: 'x'.repeat(70_000) }, over('ingest.message', 65_536)],
  ['too large a body', Buffer.alloc(2_000_000, 32), over('ingest.body', 1_048_576)],
  ['too large a batch', Array.from({ length: 1_001 }, () => message), over('ingest.batch', 1_000)],
  ['too many rooms', { ...message, to: { rooms: Array.from({ length: 101 }, (_, n) => `lobby-${n}`) } }, over('ingest.rooms', 100)],
];
for (const [name, body, named] of refusals) {
  test(`${name} is refused with what is wrong by name`, async () => {
    const answer = await until('it is answered', () => post(ingest.ingest, body, authorization));
    const said = Object.fromEntries(Object.keys(named).map((member) => [member, answer.body[member]]));
    assert.deepEqual(said, named, JSON.stringify(answer.body));
    assert.equal(answer.status, named.status);
    assert.match(answer.type, /application\/problem\+json/);
  });
}

test('of several mistakes each is named', async () => {
  const { status, body } = await post(ingest.ingest, [{ ...message, event: 7 }, message, { ...message, colour: 'red' }], authorization);
  assert.equal(status, 422);
  assert.deepEqual(body.errors.map(({ field }) => field), ['[0].event', '[2].colour']);
  assert.equal(body.errors_total, 2);
});

test('no key and a wrong key are 401', async () => {
  for (const headers of [{}, { authorization: `Bearer ${canary('producer-key', 'wrong')}` }]) {
    const { status, type, body } = await post(ingest.ingest, message, headers);
    assert.equal(status, 401);
    assert.match(type, /application\/problem\+json/);
    assert.equal(body.type, problem('unauthorized'));
  }
});

test('nothing of what was refused was written', async () => {
  const { body } = await post(ingest.ingest, message, authorization);
  await until('what was accepted came', () => witness.received.some(({ id }) => id === body.id));
  assert.deepEqual(witness.received.map(({ room, id }) => [room, id]), [['lobby', body.id]]);
});

test('the same idempotency key with another body is 422', async () => {
  const one = await post(ingest.ingest, { ...message, idempotency_key: 'k1' }, authorization);
  const again = await post(ingest.ingest, { ...message, idempotency_key: 'k1' }, authorization);
  const other = await post(ingest.ingest, { ...message, data: 2, idempotency_key: 'k1' }, authorization);
  assert.deepEqual(again.body, one.body);
  assert.equal(other.status, 422);
});

test('clients are refused with a code', async () => {
  const socket = io(gateway.url, { forceNew: true });
  await until('connected', () => socket.connected);
  const code = async (...args) => (await socket.timeout(5_000).emitWithAck(...args)).error?.code;
  assert.equal(await code('join', { room: 'closed' }), 'forbidden');
  assert.equal(await code('join', { room: 'user:1' }), 'reserved_room');
  assert.equal(await code('publish', { room: 'closed', event: 'x', data: 1 }), 'forbidden');
  assert.equal(await code('nonsense', 1), 'unknown_event');
  assert.equal(await code('leave', { room: 'nowhere' }), 'not_joined');
  socket.close();
  const elsewhere = io(`${gateway.url}/admin`, { forceNew: true, reconnection: false });
  const error = await refused(elsewhere);
  assert.equal(error.message, 'Invalid namespace');
  elsewhere.close();
});

const tool = (...args) => spawnSync(process.env.E2E_BINARY, args, { env: { ...process.env, CARILLON_REDIS__URL: redis.url, CARILLON_BROKER__PARTITIONS: '8' }, encoding: 'utf8' });

/** Waits until the dead letters are as they should be, and gives them. */
const deadLetters = (fit) => until('the dead letters are listed', () => {
  const { status, stdout, stderr } = tool('dlq', 'list', '--output', 'json');
  assert.equal(status, 0, stderr);
  const all = stdout.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
  return fit(all) && all;
}, 60_000);

test('items of a list that are no text or too large become dead letters with the reason, and the next goes on', async () => {
  const listener = new Listener(gateway.url);
  await until('settled', () => listener.settled);
  const [one, two, three] = ['one', 'two', 'three'].map((more) => canary('payload', more));
  for (const item of [one, Buffer.from([0x64, 0xff, 0xfe]), two, 'x'.repeat(65_537), three]) redis.push('message', item);
  await until('the last came', () => listener.of('all').some(({ data }) => data === three));
  assert.deepEqual(listener.of('all').map(({ event, data }) => [event, data]), [one, two, three].map((text) => ['chat message', text]));
  const letters = await deadLetters((all) => all.length === 2);
  const reasons = letters.map(({ reason }) => reason).sort();
  assert.match(reasons[0], /^the item has 6553\d bytes, at most 65536 are allowed$/);
  assert.match(reasons[1], /^the item is not UTF-8: /);
  for (const { id } of letters) assert.equal(tool('dlq', 'drop', id).status, 0);
  await deadLetters((all) => all.length === 0);
  listener.close();
});

test('a poison entry in the queue becomes a dead letter, and the next goes on', async () => {
  const listener = new Listener(gateway.url, { rooms: ['lobby'] });
  await until('settled', () => listener.settled);
  const queues = redis.cli('--scan', '--pattern', 'carillon:q:*').trim().split('\n');
  for (const queue of queues) redis.cli('XADD', queue, '*', 'e', 'not protobuf');
  const { body } = await post(ingest.ingest, message, authorization);
  await until('the next message came', () => listener.of('lobby').some(({ id }) => id === body.id), 60_000);
  const letters = await deadLetters((all) => all.length === queues.length);
  assert.ok(letters.every(({ reason }) => reason.startsWith('not a queue entry: ')), JSON.stringify(letters));
  const dropped = tool('dlq', 'drop', letters[0].id);
  assert.equal(dropped.status, 0, dropped.stderr);
  const replayed = tool('dlq', 'replay', letters[1].id);
  assert.equal(replayed.status, 1);
  assert.match(replayed.stderr, /can't be read/);
  listener.close();
});

test('Redis away is 503 within the time, readyz says why, and it recovers by itself', async () => {
  await redis.child.kill();
  const started = Date.now();
  // Nobody may have noticed yet: then it was sent on a connection that is none any more.
  const first = await post(ingest.ingest, message, authorization);
  assert.equal(first.status, 503);
  assert.ok(['refused', 'unknown'].includes(first.body.outcome), JSON.stringify(first.body));
  assert.equal(first.retryAfter, '1');
  await until('readyz says why', async () => {
    const { ok, text } = await ingest.readiness();
    return !ok && /fail redis/.test(text);
  });
  const later = await post(ingest.ingest, message, authorization);
  assert.equal(later.status, 503);
  assert.equal(later.body.type, problem('unavailable'));
  assert.equal(later.body.outcome, 'refused');
  assert.match(later.body.detail, /nothing was written/);
  assert.equal(later.retryAfter, '1');
  assert.ok(Date.now() - started < 30_000, 'both are answered in bounded time');
  await redis.run();
  await until('it recovers', async () => (await post(ingest.ingest, message, authorization)).status === 202);
  await ingest.ready();
  await gateway.ready();
});

test('without any dispatcher all stay ready, and readyz explains why nothing arrives', async () => {
  await dispatcher.stop();
  for (const service of [ingest, gateway]) {
    await until(`${service.name} says so`, async () => {
      const { ok, text } = await service.readiness();
      return ok && /note dispatchers: none is alive/.test(text);
    });
  }
});
