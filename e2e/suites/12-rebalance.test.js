// A gateway that is added gets its share: the others give sessions up at the rate the policy allows, and nobody misses anything.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { Balancer } from '../lib/balancer.js';
import { Listener } from '../lib/listener.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const CLIENTS = 60;
const RATE = 5;
const children = [];
let settings;
let gateways;
let balancer;
let producer;

const start = async (kind) => {
  const service = await Service.start(kind, settings);
  children.push(service);
  return service;
};
before(async () => {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, `anonymous: { sessions: true, producers: true }
rooms:
- { match: "*", join: anyone, history: { size: 20000, bytes: 64MiB } }
gateways: { rebalance: { rate: ${RATE}/s, within: 15 } }
`);
  settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policy,
    CARILLON_GATEWAY__FORWARDING__SECRET: 'what all the gateways know',
  };
  gateways = [await start('gateway'), await start('gateway')];
  await start('dispatcher');
  producer = new Producer((await start('ingest')).ingest);
  balancer = await Balancer.start(gateways.map((gateway) => gateway.gatewayPort));
});
after(async () => {
  balancer?.close();
  for (const child of children.reverse()) await child.kill();
});

const each = (name, labels) => Promise.all(gateways.map((gateway) => gateway.metric(name, labels)));
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
const sessions = () => each('carillon_gateway_sessions', '');
const givenUp = async () => sum(await each('carillon_gateway_sessions_closed_total', '"rebalance"'));

test('two gateways give a third its share, and every client has everything once', async () => {
  const clients = Array.from({ length: CLIENTS }, () => new Listener(balancer.url, { rooms: ['news'] }));
  await until('all are settled', () => clients.every((client) => client.settled), 90_000);
  await until('all have upgraded', () => clients.every((client) => client.socket.io.engine.transport.name === 'websocket'), 90_000);
  const ends = [];
  clients.forEach((client) => client.socket.on('disconnect', () => ends.push(performance.now())));
  let stop = false;
  const flow = (async () => {
    for (let number = 0; !stop; number += 1) await producer.send({ to: { room: 'news' }, event: 'tick', data: number });
  })();
  await until('messages flow', () => clients.every((client) => client.of('news').length > 5), 60_000);

  gateways.push(await start('gateway'));
  balancer.ports.push(gateways.at(-1).gatewayPort);
  const mean = CLIENTS / gateways.length;
  await until('nobody has more than the share', async () => {
    const counts = await sessions();
    return sum(counts) === CLIENTS && Math.max(...counts) <= mean * 1.15 && (await givenUp()) > 0;
  }, 120_000);
  await until('all are settled again', () => clients.every((client) => client.settled), 60_000);
  await until('the gateways see it', async () => sum(await each('carillon_gateway_rebalance_excess_sessions', '')) === 0, 60_000);
  stop = true;
  await flow;

  const moved = await givenUp();
  assert.ok(moved >= mean * 0.5, `${moved} were moved`);
  assert.ok(moved < CLIENTS, `${moved} moved for a share of ${mean}`);
  assert.equal(moved, ends.length, 'nobody lost a connection for another reason');
  // However busy the machine is, a rate is an upper bound: two gateways gave up.
  const busiest = Math.max(...ends.map((from) => ends.filter((end) => end >= from && end < from + 1_000).length));
  assert.ok(busiest <= 2 * RATE * 1.5, `${busiest} in one second`);
  const { offset: last } = producer.accepted.at(-1);
  for (const [n, client] of clients.entries()) {
    await until(`client ${n} has the last message`, () => client.of('news').at(-1)?.offset === last, 30_000);
    assert.deepEqual(client.audit(producer.accepted, ['news']), [], `client ${n}`);
    assert.ok(client.connects <= 3, `client ${n} was sent about: ${client.connects}`);
  }
  clients.forEach((client) => client.close());
});
