#!/usr/bin/env node
// What a session, a message and a delivery cost, by the processes' own accounts: memory and processor time, which a busy
// machine does not change much, rather than how much goes through in a second, which it does.
//
// `scripts/measure.mjs [--clients 2000] [--rooms 20] [--messages 20000]` starts a Redis, an ingest, a dispatcher and a
// gateway of its own on free ports and prints a table. The build is CARGO_TARGET_DIR's development build unless
// E2E_BINARY names another.
import { createRequire } from 'node:module';
import os from 'node:os';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';

// On a busy machine clients and servers share the processors; only what the processes account for themselves is comparable.
const root = new URL('..', import.meta.url);
process.env.E2E_BINARY ??= `${process.env.CARGO_TARGET_DIR ?? new URL('target', root).pathname}/debug/carillon`;
const { Service } = await import('../e2e/lib/processes.js');
const { Redis } = await import('../e2e/lib/redis.js');
const { until } = await import('../e2e/lib/until.js');
const { io } = createRequire(new URL('e2e/package.json', root))('socket.io-client');

const { values } = parseArgs({ options: {
  clients: { type: 'string', default: '2000' }, rooms: { type: 'string', default: '20' }, messages: { type: 'string', default: '20000' },
} });
const [CLIENTS, ROOMS, MESSAGES] = ['clients', 'rooms', 'messages'].map((name) => Number(values[name]));
const HISTORY = 1_000_000;
const BATCH = 100;
const PADDING = 'x'.repeat(160);

const children = [];
const usedMemory = (redis) => Number(/used_memory:(\d+)/.exec(redis.cli('INFO', 'memory'))[1]);
const account = async (service) => ({ cpu: await service.metric('process_cpu_seconds_total'), memory: await service.metric('process_resident_memory_bytes') });
const redisCpu = (redis) => {
  const text = redis.cli('INFO', 'cpu');
  return ['used_cpu_sys', 'used_cpu_user'].reduce((sum, name) => sum + Number(new RegExp(`${name}:([\\d.]+)`).exec(text)[1]), 0);
};
const rows = [];
const row = (what, value) => rows.push([what, value]);

try {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-measure-')), 'policy.yaml');
  fs.writeFileSync(policy, `anonymous: { sessions: true, producers: true }\nrooms:\n- { match: "*", join: anyone, history: { size: ${HISTORY}, bytes: 512MiB, age: 1h } }\n`);
  const settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy, CARILLON_LOG__LEVEL: 'warn', CARILLON_BROKER__PARTITIONS: '64' };
  const start = async (kind) => {
    const service = await Service.start(kind, settings);
    children.push(service);
    return service;
  };
  const [dispatcher, ingest, gateway] = [await start('dispatcher'), await start('ingest'), await start('gateway')];

  const before = await account(gateway);
  let joined = 0;
  let received = 0;
  const sockets = [];
  for (let n = 0; n < CLIENTS; n += 1) {
    const socket = io(gateway.url, { transports: ['websocket'], forceNew: true });
    socket.on('connect', () => socket.emit('join', { room: `room-${n % ROOMS}` }, () => { joined += 1; }));
    socket.on('tick', () => { received += 1; });
    sockets.push(socket);
    if (n % 50 === 49) await until('they are in', () => joined >= n - 200, 120_000);
  }
  await until('all have joined', () => joined === CLIENTS, 300_000);
  const idle = await account(gateway);
  row('gateway: memory of an empty one', `${(before.memory / 2 ** 20).toFixed(0)} MiB`);
  row(`gateway: memory per idle session (WebSocket, ${CLIENTS} sessions in ${ROOMS} rooms)`, `${((idle.memory - before.memory) / CLIENTS / 1024).toFixed(1)} KiB`);
  row('gateway: processor time per connect and join', `${(((idle.cpu - before.cpu) / CLIENTS) * 1e3).toFixed(2)} ms`);

  const [cpu, memory] = [await Promise.all([ingest, dispatcher, gateway].map(account)), usedMemory(redis)];
  const redisBefore = redisCpu(redis);
  const began = performance.now();
  for (let sent = 0; sent < MESSAGES; sent += BATCH) {
    const body = Array.from({ length: BATCH }, (_, n) => ({ to: { room: `room-${(sent + n) % ROOMS}` }, event: 'tick', data: { number: sent + n, padding: PADDING } }));
    await until('it is taken', async () => (await fetch(`${ingest.ingest}/v1/messages`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })).status === 202);
  }
  const deliveries = (MESSAGES * CLIENTS) / ROOMS;
  await until('all were delivered', () => received >= deliveries, 600_000);
  const took = (performance.now() - began) / 1_000;
  const after = await Promise.all([ingest, dispatcher, gateway].map(account));
  const spent = after.map((now, index) => now.cpu - cpu[index].cpu);
  row(`ingest: messages per second of processor time (requests of ${BATCH})`, (MESSAGES / spent[0]).toFixed(0));
  row('dispatcher: messages per second of processor time', (MESSAGES / spent[1]).toFixed(0));
  row(`gateway: deliveries per second of processor time (${CLIENTS / ROOMS} listeners per message)`, (deliveries / spent[2]).toFixed(0));
  row('Redis: messages per second of processor time', (MESSAGES / (redisCpu(redis) - redisBefore)).toFixed(0));
  row('Redis: memory per message kept in a history (200 bytes of data)', `${((usedMemory(redis) - memory) / MESSAGES).toFixed(0)} bytes`);
  row('gateway: memory with all of it delivered', `${(after[2].memory / 2 ** 20).toFixed(0)} MiB`);
  row('for comparison: messages per second as it went, everything and the clients on this machine', (MESSAGES / took).toFixed(0));
  sockets.forEach((socket) => socket.close());
  console.log(rows.map(([what, value]) => `| ${what} | ${value} |`).join('\n'));
  console.log(`\non ${os.cpus().length} × ${os.cpus()[0]?.model ?? 'unknown'}, load ${os.loadavg()[0].toFixed(1)}`);
} finally {
  for (const child of children.reverse()) await child.kill();
}
process.exit(0);
