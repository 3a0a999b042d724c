// Bad input gets a clear error and loses nothing.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execFileSync, spawnSync } from 'node:child_process';
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
import { until } from '../lib/until.js';

const children = [];
let redis;
let gateway;
let ingest;
let dispatcher;
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
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

const message = { to: { room: 'lobby' }, event: 'price', data: canary('payload') };
const refusals = [
  ['malformed JSON', `{"to": "all", "data": "${canary('payload')}",\n "event": }`, [400, 422], /line|column/],
  ['an unknown field', { ...message, colour: 'red' }, [400, 422], /colour/],
  ['a wrong type', { ...message, event: 7 }, [400, 422], /event/],
  ['a bad room name', { ...message, to: { room: 'a\u0007b' } }, [400, 422], /room/],
  ['a field of later work', { ...message, ttl: '30s' }, [400, 422], /ttl/],
  ['a room not allowed', { ...message, to: { room: 'secret' } }, [403], /secret/],
  ['too much data', { ...message, data: 'x'.repeat(70_000) }, [413], /65536|64/],
  ['too large a body', Buffer.alloc(2_000_000, 32), [413], /1048576|1 MiB|1\.0 MiB/],
];
for (const [name, body, statuses, says] of refusals) {
  test(`${name} is refused in words`, async () => {
    const answer = await until('it is answered', () => post(ingest.ingest, body, authorization));
    assert.ok(statuses.includes(answer.status), `${answer.status} ${JSON.stringify(answer.body)}`);
    assert.match(answer.type, /application\/problem\+json/);
    assert.match(JSON.stringify(answer.body), says);
  });
}

test('no key and a wrong key are 401', async () => {
  assert.equal((await post(ingest.ingest, message)).status, 401);
  assert.equal((await post(ingest.ingest, message, { authorization: `Bearer ${canary('producer-key', 'wrong')}` })).status, 401);
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
  const error = await new Promise((resolve) => { elsewhere.on('connect_error', resolve); });
  assert.match(error.message, /namespace/i);
  elsewhere.close();
});

test('a poison entry in the queue becomes a dead letter, and the next goes on', async () => {
  const listener = new Listener(gateway.url, { rooms: ['lobby'] });
  await until('settled', () => listener.settled);
  const queues = execFileSync('redis-cli', ['-p', `${redis.port}`, '--scan', '--pattern', 'carillon:q:*'], { encoding: 'utf8' }).trim().split('\n');
  for (const queue of queues) redis.cli('XADD', queue, '*', 'e', 'not protobuf');
  const { body } = await post(ingest.ingest, message, authorization);
  await until('the next message came', () => listener.of('lobby').some(({ id }) => id === body.id), 60_000);
  const env = { ...process.env, CARILLON_REDIS__URL: redis.url, CARILLON_BROKER__PARTITIONS: '8' };
  const list = () => spawnSync(process.env.E2E_BINARY, ['dlq', 'list', '--output', 'json'], { env, encoding: 'utf8' });
  const letters = await until('the dead letters are listed', () => {
    const lines = list().stdout.trim().split('\n').filter(Boolean);
    return lines.length >= queues.length && lines.map((line) => JSON.parse(line));
  }, 60_000);
  assert.ok(letters.every(({ reason }) => reason.length > 0));
  const dropped = spawnSync(process.env.E2E_BINARY, ['dlq', 'drop', letters[0].id], { env, encoding: 'utf8' });
  assert.equal(dropped.status, 0, dropped.stderr);
  const replayed = spawnSync(process.env.E2E_BINARY, ['dlq', 'replay', letters[1].id], { env, encoding: 'utf8' });
  assert.equal(replayed.status, 1);
  assert.match(replayed.stderr, /can't be read/);
  listener.close();
});

test('Redis away is 503 within the time, readyz says why, and it recovers by itself', async () => {
  await redis.child.kill();
  const started = Date.now();
  const refused = await post(ingest.ingest, message, authorization);
  assert.equal(refused.status, 503);
  assert.ok(refused.retryAfter);
  assert.ok(Date.now() - started < 5_000);
  await until('readyz says why', async () => {
    const { ok, text } = await ingest.readiness();
    return !ok && /fail redis/.test(text);
  });
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
