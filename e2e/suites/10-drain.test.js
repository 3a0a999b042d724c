// A deploy without a stampede: SIGTERM hands sessions over at the chosen rate, says so in readiness, and loses nothing.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { Listener } from '../lib/listener.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const CLIENTS = 120;
const RATE = 20;
const children = [];
let settings;
let ingest;
const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};

before(async () => {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: true, producers: true }\nrooms:\n- { match: "*", join: anyone, history: { size: 20000, bytes: 64MiB } }\n');
  settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy };
  await start('dispatcher');
  ingest = await start('ingest');
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

test('sessions go over one by one, at the chosen rate, and miss nothing', async () => {
  const leaving = await start('gateway', { CARILLON_GATEWAY__DRAIN__RATE: String(RATE), CARILLON_GATEWAY__DRAIN__TIMEOUT: '30s' });
  const staying = await start('gateway');
  const clients = Array.from({ length: CLIENTS }, (_, n) => new Listener(leaving.url, { rooms: ['news'], options: n % 2 ? { transports: ['websocket'] } : {} }));
  await until('all are settled', () => clients.every((client) => client.settled), 60_000);
  // A load balancer sends who comes back to a gateway that is ready.
  const ends = [];
  for (const client of clients) {
    client.socket.on('disconnect', () => {
      ends.push(performance.now());
      client.socket.io.uri = staying.url;
    });
  }
  const producer = new Producer(ingest.ingest);
  let stop = false;
  const flow = (async () => {
    for (let number = 0; !stop; number += 1) await producer.send({ to: { room: 'news' }, event: 'tick', data: number });
  })();
  await until('messages flow', () => clients[0].of('news').length > 5);

  leaving.signal('SIGTERM');
  await until('it is no longer ready and says why', async () => {
    const { ok, text } = await leaving.readiness();
    return !ok && text.includes('drain');
  });
  const { code } = await leaving.ended;
  assert.equal(code, 0);
  await until('all are on the other', async () => (await staying.metric('carillon_gateway_sessions')) === CLIENTS, 30_000);
  stop = true;
  await flow;

  assert.equal(ends.length, CLIENTS, 'each was handed over once');
  // However busy the machine is, a pace is an upper bound: in no second more than the rate and a burst of a tenth.
  const busiest = Math.max(...ends.map((from) => ends.filter((end) => end >= from && end < from + 1_000).length));
  assert.ok(busiest <= RATE * 1.5, `${busiest} in one second`);
  const took = (ends.at(-1) - ends[0]) / 1_000;
  assert.ok(took >= (CLIENTS / RATE) * 0.7, `over after ${took} s`);
  for (const [n, client] of clients.entries()) {
    const { offset: last } = producer.accepted.at(-1);
    await until(`client ${n} has the last message`, () => client.of('news').at(-1)?.offset === last, 30_000);
    assert.deepEqual(client.audit(producer.accepted, ['news']), [], `client ${n}`);
  }
  clients.forEach((client) => client.close());
});

test('a deadline that the rate would miss makes it faster, and a second SIGTERM ends it at once', async () => {
  const hurried = await start('gateway', { CARILLON_GATEWAY__DRAIN__RATE: '10', CARILLON_GATEWAY__DRAIN__TIMEOUT: '3s' });
  const clients = Array.from({ length: CLIENTS }, () => new Listener(hurried.url, { options: { transports: ['websocket'], reconnection: false } }));
  await until('all are settled', () => clients.every((client) => client.settled), 60_000);
  hurried.signal('SIGTERM');
  const { code } = await hurried.ended;
  assert.equal(code, 0, 'all were handed over by the deadline');
  assert.ok(clients.every((client) => !client.socket.connected || client.connects === 1));

  const patient = await start('gateway', { CARILLON_GATEWAY__DRAIN__RATE: '10', CARILLON_GATEWAY__DRAIN__TIMEOUT: '1h' });
  const more = Array.from({ length: 60 }, () => new Listener(patient.url, { options: { transports: ['websocket'], reconnection: false } }));
  await until('all are settled', () => more.every((client) => client.settled), 60_000);
  patient.signal('SIGTERM');
  await until('it drains', async () => !(await patient.readiness()).ok);
  patient.signal('SIGTERM');
  const ended = await patient.ended;
  assert.notEqual(ended.code, 0, 'it did not go by itself');
  assert.ok(more.some((client) => client.connects === 1));
  [...clients, ...more].forEach((client) => client.close());
});
