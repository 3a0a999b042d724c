// Redis that does not answer, is nearly full, or holds a full queue: every answer says what became of the message.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { Listener } from '../lib/listener.js';
import { post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Proxy } from '../lib/proxy.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const QUEUE = 5;
const children = [];
let redis;
let proxy;
let settings;
let gateway;
let ingest;
let dispatcher;
let listener;

const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};

before(async () => {
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  // Between ingest and Redis, to see what is sent, and when.
  proxy = await Proxy.start(redis.port);
  children.push({ kill: () => proxy.close() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: true, producers: true }\nrooms:\n- { match: "*", join: anyone, publish: anyone }\n');
  settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy };
  gateway = await start('gateway');
  dispatcher = await start('dispatcher');
  ingest = await start('ingest', { CARILLON_REDIS__URL: `redis://127.0.0.1:${proxy.port}`, CARILLON_INGEST__TIMEOUT: '1s' });
  listener = new Listener(gateway.url, { rooms: ['lobby'] });
  await until('settled', () => listener.settled);
  // Connections stand, and Redis knows the scripts.
  await sent('the first');
});
after(async () => {
  redis?.thaw();
  for (const child of children.reverse()) await child.kill();
});

const message = (data) => ({ to: { room: 'lobby' }, event: 'price', data });

/** Sends to the lobby until it is kept, and waits until it is heard there. */
async function sent(data) {
  const { body } = await until(`${data} is kept`, async () => {
    const answer = await post(ingest.ingest, message(data));
    return answer.status === 202 && answer;
  });
  await until(`${data} is heard`, () => listener.of('lobby').some(({ id }) => id === body.id));
}

/** Calls back once, before the first bytes go to Redis that have this text in them. What it gives, the proxy is told. */
function whenSent(text, act) {
  return new Promise((resolve) => {
    proxy.watch = (direction, bytes) => {
      if (direction !== 'up' || !bytes.includes(text)) return true;
      proxy.watch = undefined;
      resolve();
      return act();
    };
  });
}

const heard = (id) => listener.of('lobby').filter((message) => message.id === id);

/** What a producer is told when the outcome is unknown. Gives the message's id. */
function unknown(answer) {
  const { status, type, retryAfter, body } = answer;
  assert.equal(status, 503, JSON.stringify(body));
  assert.match(type, /application\/problem\+json/);
  assert.equal(body.type, 'https://carillon.dev/problems/outcome-unknown');
  assert.equal(body.outcome, 'unknown');
  assert.equal(retryAfter, '1');
  assert.equal(body.retry_after, 1);
  // The bound, as the answer has it.
  assert.match(body.detail, /no answer within 1s.*only with the same idempotency key/);
  assert.deepEqual(body.messages.map(({ rooms }) => rooms), [[{ room: 'lobby', outcome: 'unknown' }]]);
  return body.messages[0].id;
}

async function recovers() {
  for (const service of [ingest, gateway, dispatcher]) await service.ready();
  await until('the listener is settled', () => listener.settled);
}

test('the bound is two seconds where nothing else is set', () => {
  const { status, stdout } = spawnSync(process.env.E2E_BINARY, ['ingest', '--print-settings'], { encoding: 'utf8' });
  assert.equal(status, 0);
  assert.match(stdout, /^ingest\.timeout\s.*\b2s\b.*default/m);
});

test('a message that Redis got and did not answer has an unknown outcome, and its key makes it one message', { timeout: 120_000 }, async (t) => {
  t.after(() => redis.thaw());
  const keyed = { ...message(randomUUID()), idempotency_key: randomUUID() };
  const stopped = whenSent(keyed.data, () => { redis.freeze(); return true; });
  const began = Date.now();
  const answer = await post(ingest.ingest, keyed);
  const id = unknown(answer);
  assert.ok(Date.now() - began < 15_000, 'it is answered in bounded time');
  await stopped;
  await until('readyz says why', async () => {
    const { ok, text } = await ingest.readiness();
    return !ok && /fail redis: .*(no answer|within the time|timed out)/.test(text);
  });
  assert.deepEqual(heard(id), []);
  redis.thaw();
  // It was kept after all: what was sent before waits in Redis' socket.
  await until('it is heard', () => heard(id).length > 0, 60_000);
  await recovers();
  const again = await until('it is known', async () => {
    const repeated = await post(ingest.ingest, keyed);
    return repeated.status === 202 && repeated;
  });
  assert.equal(again.body.id, id);
  await sent('after the repeat');
  assert.deepEqual(heard(id).map(({ offset, data }) => [offset, data]), [[again.body.rooms[0].offset, keyed.data]]);
});

test('a message that never reached Redis has an unknown outcome too, and its key makes it one message', { timeout: 120_000 }, async () => {
  const keyed = { ...message(randomUUID()), idempotency_key: randomUUID() };
  whenSent(keyed.data, () => false);
  const id = unknown(await post(ingest.ingest, keyed));
  await sent('after it was lost');
  assert.deepEqual(heard(id), []);
  const again = await until('it is known', async () => {
    const repeated = await post(ingest.ingest, keyed);
    return repeated.status === 202 && repeated;
  });
  assert.equal(again.body.id, id);
  await sent('after the repeat');
  assert.equal(heard(id).length, 1);
});

test('a Redis that stands still before anything was sent refuses for certain', { timeout: 120_000 }, async (t) => {
  t.after(() => redis.thaw());
  const keyed = { ...message(randomUUID()), idempotency_key: randomUUID() };
  redis.freeze();
  const { status, retryAfter, body } = await post(ingest.ingest, keyed);
  assert.equal(status, 503);
  assert.equal(body.type, 'https://carillon.dev/problems/unavailable');
  assert.equal(body.outcome, 'refused');
  assert.match(body.detail, /nothing was written/);
  assert.equal(retryAfter, '1');
  redis.thaw();
  await recovers();
  await sent('afterwards');
  assert.ok(!listener.of('lobby').some(({ data }) => data === keyed.data));
});

test('above 80 % of its memory nothing more is taken, and what was taken is delivered', { timeout: 120_000 }, async () => {
  assert.deepEqual(await dispatcher.stop(), { code: 0, signal: null });
  // What Redis did to connections before may cost the first answer; with its key the message is one.
  const key = { 'idempotency-key': randomUUID() };
  const kept = await until('it is taken', async () => {
    const { status, body } = await post(ingest.ingest, message('taken before'), key);
    return status === 202 && body;
  });
  // So much that what comes and goes meanwhile is no part of it worth mentioning.
  redis.cli('SETRANGE', 'ballast', `${24 << 20}`, 'x');
  const used = Number(/used_memory:(\d+)/.exec(redis.cli('INFO', 'memory'))[1]);
  redis.cli('CONFIG', 'SET', 'maxmemory', `${Math.round(used / 0.75)}`);
  await until('the share is seen', async () => (await ingest.metric('carillon_redis_memory_ratio')) > 0.73);
  await until('below the limit it is taken', async () => {
    const answer = await post(ingest.ingest, message('below the limit'));
    assert.notEqual(answer.status, 429, JSON.stringify(answer.body));
    return answer.status === 202;
  });
  redis.cli('CONFIG', 'SET', 'maxmemory', `${Math.round(used / 0.9)}`);
  const full = () => post(ingest.ingest, message('one too many'));
  const refused = await until('it is refused', async () => {
    const answer = await full();
    return answer.status === 429 && answer;
  });
  const tell = ({ status: told, type, retryAfter, body }) => {
    assert.equal(told, 429, JSON.stringify(body));
    assert.match(type, /application\/problem\+json/);
    assert.equal(body.type, 'https://carillon.dev/problems/memory');
    assert.equal(body.outcome, 'refused');
    assert.equal(retryAfter, '5');
    assert.equal(body.retry_after, 5);
    assert.match(body.detail, /Redis uses (8[5-9]|9[0-5]) % of its memory, over 80 % nothing is accepted; nothing of this request was written/);
  };
  tell(refused);
  // Gateways and dispatchers go on, ready and at work.
  const newcomer = new Listener(gateway.url, { rooms: ['lobby'] });
  await until('a client comes and joins', () => newcomer.settled);
  dispatcher = await start('dispatcher');
  await until('what was taken is delivered', () => heard(kept.id).length === 1);
  await gateway.ready();
  tell(await full());
  // Clients meet the same gate: their messages first, then rooms nobody here is in, then those who come.
  const asks = (event, request) => newcomer.socket.emitWithAck(event, request);
  const { ok, error } = await asks('publish', { room: 'lobby', event: 'note', data: 1 });
  assert.deepEqual({ ok, code: error?.code, wait: error?.retry_after_ms }, { ok: false, code: 'queue_full', wait: 5000 });
  const share = async (of) => {
    redis.cli('CONFIG', 'SET', 'maxmemory', `${Math.round(used / of)}`);
    await until(`the gateway sees ${of}`, async () => Math.abs(await gateway.metric('carillon_redis_memory_ratio') - of) < 0.015);
  };
  await share(0.925);
  const joined = await asks('join', { room: 'a room nobody is in' });
  assert.deepEqual({ ok: joined.ok, code: joined.error?.code }, { ok: false, code: 'memory_full' });
  assert.equal((await asks('join', { room: 'lobby' })).ok, true);
  await share(0.975);
  const patient = new Listener(gateway.url, { rooms: ['lobby'] });
  await until('nobody is let in', async () => (await gateway.metric('carillon_gateway_handshakes_refused_total', 'code="memory_full"')) > 1);
  assert.match(await (await fetch(`${gateway.admin}/readyz`)).text(), /note memory: Redis is nearly full/);
  assert.equal(patient.socket.connected, false);
  redis.cli('CONFIG', 'SET', 'maxmemory', '0');
  redis.cli('DEL', 'ballast');
  await until('whoever waited is let in', () => patient.settled);
  await sent('when there is room again');
  assert.equal(/memory/.test(await (await fetch(`${gateway.admin}/readyz`)).text()), false);
  newcomer.close();
  patient.close();
});

test('a full queue takes nothing more until it was worked off', { timeout: 120_000 }, async () => {
  assert.deepEqual(await dispatcher.stop(), { code: 0, signal: null });
  const narrow = await start('ingest', { CARILLON_INGEST__QUEUE: `${QUEUE}` });
  const before = listener.of('lobby').length;
  const kept = [];
  for (let n = 0; n < QUEUE; n += 1) {
    const { status, body } = await post(narrow.ingest, message(n));
    assert.equal(status, 202, JSON.stringify(body));
    kept.push(body.id);
  }
  const { status, type, retryAfter, body } = await post(narrow.ingest, message('one over the queue'));
  assert.equal(status, 429, JSON.stringify(body));
  assert.match(type, /application\/problem\+json/);
  assert.equal(body.type, 'https://carillon.dev/problems/queue-full');
  assert.equal(body.detail, `${QUEUE} messages wait in the queue already; nothing was written`);
  assert.equal(body.outcome, 'refused');
  assert.equal(retryAfter, '1');
  assert.equal(body.retry_after, 1);
  dispatcher = await start('dispatcher');
  await sent('when there is room again');
  assert.deepEqual(listener.of('lobby').slice(before, before + QUEUE).map(({ id }) => id), kept);
  assert.ok(!listener.of('lobby').some(({ data }) => data === 'one over the queue'));
});
