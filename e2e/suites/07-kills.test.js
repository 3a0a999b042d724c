// A gateway and a dispatcher are killed and replaced under load: clients with cursors lose nothing.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after } from 'node:test';
import { Listener } from '../lib/listener.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const KILLS = 5;
const children = new Set();
after(async () => { for (const child of [...children].reverse()) await child.kill(); });

test('five times a gateway and a dispatcher die', async () => {
  const redis = await Redis.start();
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: true, producers: true }\nrooms:\n- { match: "*", join: anyone, history: { size: 10000, bytes: 64MiB } }\n');
  const settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy };
  const start = async (kind, more) => {
    const service = await Service.start(kind, { ...settings, ...more });
    children.add(service);
    return service;
  };
  const ingest = await start('ingest');
  let gateway = await start('gateway');
  let dispatcher = await start('dispatcher');
  // Who joins a room before its partition begins is told `false` at the first message: true, and not what is tried here.
  await until('it owns all partitions', async () => (await dispatcher.metric('carillon_dispatcher_owned', '"partition"')) === 8);
  const rooms = ['a', 'b', 'c'];
  const clients = Array.from({ length: 20 }, (_, n) => new Listener(gateway.url, { rooms: [rooms[n % 3]], options: n % 2 ? { transports: ['websocket'] } : {} }));
  await until('all clients are settled', () => clients.every((client) => client.settled));
  const producer = new Producer(ingest.ingest);
  let stop = false;
  const flow = (async () => {
    for (let number = 0; !stop; number += 1) {
      await producer.batch(rooms.map((room) => ({ to: { room }, event: 'tick', data: number })));
    }
  })();
  for (let kill = 0; kill < KILLS; kill += 1) {
    const progress = clients[0].received.length;
    await until('messages flow', () => clients[0].received.length > progress + 20, 60_000);
    await Promise.all([gateway.kill(), dispatcher.kill()]);
    // The new gateway stands where the clients look for it: behind the same address.
    const address = { CARILLON_GATEWAY__LISTEN: `127.0.0.1:${gateway.gatewayPort}` };
    [gateway, dispatcher] = await Promise.all([
      start('gateway', address).then((started) => Object.assign(started, { gatewayPort: gateway.gatewayPort })),
      start('dispatcher'),
    ]);
    await until('all clients are back', () => clients.every((client) => client.socket.connected), 60_000);
  }
  stop = true;
  await flow;
  for (const [n, client] of clients.entries()) {
    const last = producer.accepted.filter(({ room }) => room === rooms[n % 3]).at(-1).offset;
    await until(`client ${n} has the last message`, () => client.of(rooms[n % 3]).some(({ offset }) => offset === last), 60_000);
    assert.deepEqual(client.audit(producer.accepted, [rooms[n % 3]]), [], `client ${n}`);
    assert.deepEqual(client.holes, [], `history proves that client ${n} has everything`);
  }
  clients.forEach((client) => client.close());
  for (const child of [...children].reverse()) await child.kill();
  children.clear();
  await redis.stop();
});
