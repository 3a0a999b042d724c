// One slow phone hurts nobody: clients that stop reading are held to their outbox, others get everything meanwhile, and
// who reads again is brought up to date from history.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { canary } from '../lib/canaries.js';
import { Listener } from '../lib/listener.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const SLOW = 10;
const MESSAGES = 3_000;
const children = [];
let gateway;
let producer;

before(async () => {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, `
anonymous: { sessions: true, producers: true }
rooms:
- { match: "strict", join: anyone, slow: close, history: { size: 20000, bytes: 128MiB } }
- { match: "*", join: anyone, history: { size: 20000, bytes: 128MiB } }
`);
  const settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy, CARILLON_GATEWAY__OUTBOX: '64KiB' };
  const start = async (kind) => {
    const service = await Service.start(kind, settings);
    children.push(service);
    return service;
  };
  gateway = await start('gateway');
  await start('dispatcher');
  producer = new Producer((await start('ingest')).ingest);
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

const listen = (room) => new Listener(gateway.url, { rooms: [room], options: { transports: ['websocket'] } });
/** What a phone in a tunnel does: its connection stands and nobody reads from it. */
const stopReading = (client) => client.socket.io.engine.transport.ws._socket.pause();
const readAgain = (client) => client.socket.io.engine.transport.ws._socket.resume();
const flood = async (room) => {
  for (let batch = 0; batch < MESSAGES / 100; batch += 1) {
    await producer.batch(Array.from({ length: 100 }, (_, n) => ({ to: { room }, event: 'tick', data: { number: batch * 100 + n, padding: canary('payload').padEnd(5_000, 'x') } })));
  }
};

test('who reads gets everything while others do not, and they catch up when they read again', async () => {
  const slow = Array.from({ length: SLOW }, () => listen('news'));
  const fast = listen('news');
  await until('all are settled', () => [...slow, fast].every((client) => client.settled));
  slow.forEach(stopReading);
  await flood('news');
  await until('the fast one has everything', () => fast.of('news').length === MESSAGES, 60_000);
  assert.deepEqual(fast.audit(producer.accepted, ['news']), []);
  assert.ok(slow.every((client) => client.of('news').length < MESSAGES), 'they read nothing meanwhile');
  await until('each fell behind', async () => (await gateway.metric('carillon_gateway_sessions_fell_behind_total')) >= SLOW);
  assert.equal(await gateway.metric('carillon_gateway_sessions'), SLOW + 1, 'nobody was closed for it');

  slow.forEach(readAgain);
  for (const [n, client] of slow.entries()) {
    await until(`slow client ${n} has everything`, () => client.of('news').length >= MESSAGES, 90_000);
    assert.deepEqual(client.audit(producer.accepted, ['news']), [], `slow client ${n}`);
    assert.equal(client.connects, 1, 'on the connection it had');
  }
  [...slow, fast].forEach((client) => client.close());
});

test('a room that says `slow: close` closes who does not read, and its cursor brings everything', async () => {
  const slow = listen('strict');
  const fast = listen('strict');
  await until('both are settled', () => slow.settled && fast.settled);
  stopReading(slow);
  await flood('strict');
  await until('the fast one has everything', () => fast.of('strict').length === MESSAGES, 60_000);
  await until('only the fast one is there', async () => (await gateway.metric('carillon_gateway_sessions')) === 1, 30_000);
  assert.ok((await gateway.metric('carillon_gateway_sessions_closed_total', 'slow_reader')) >= 1);
  readAgain(slow);
  await until('the slow one has everything', () => slow.of('strict').length >= MESSAGES, 90_000);
  assert.deepEqual(slow.audit(producer.accepted, ['strict']), []);
  assert.ok(slow.connects > 1, 'by another connection');
  [slow, fast].forEach((client) => client.close());
});
