// A small load from one machine, to compare a change with what was before it. No benchmark of anything else: clients,
// producers and Carillon share the processors, and the build is a development build.
//
// Each client is a stock socket.io-client in one room. Messages go to the rooms in turn, at a steady rate; a latency is
// the time from before the POST to the client's handler, by one clock.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import os from 'node:os';
import { parseArgs } from 'node:util';

const root = new URL('..', import.meta.url);
const { io } = createRequire(new URL('e2e/package.json', root))('socket.io-client');

const { values } = parseArgs({
  options: {
    clients: { type: 'string', default: '200' },
    rooms: { type: 'string', default: '10' },
    messages: { type: 'string', default: '2000' },
    rate: { type: 'string', default: '200' },
    url: { type: 'string' },
    ingest: { type: 'string', default: 'http://127.0.0.1:8080' },
  },
});
const [clients, rooms, messages, rate] = ['clients', 'rooms', 'messages', 'rate'].map((name) => {
  const number = Number(values[name]);
  if (!Number.isInteger(number) || number < 1) {
    console.error(`--${name} ${values[name]}: a whole number above 0 is needed`);
    process.exit(64);
  }
  return number;
});
const url = values.url ?? 'http://127.0.0.1:3000';
const binary = `${process.env.CARGO_TARGET_DIR ?? new URL('target', root).pathname}/debug/carillon`;
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(what, seconds, holds) {
  const deadline = performance.now() + seconds * 1000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await sleep(50);
  }
}

const post = (body) =>
  fetch(`${values.ingest}/v1/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

async function run() {
  const roomOf = (number) => `lobby:bench:${number % rooms}`;
  const latencies = [];
  const seen = new Map();
  let joined = 0;
  let refused;
  const began = performance.now();
  const sockets = Array.from({ length: clients }, (_, client) => {
    const socket = io(url, { transports: ['websocket'], forceNew: true });
    socket.on('connect', () =>
      socket.emit('join', { room: roomOf(client) }, (answer) => {
        if (answer.ok) joined += 1;
        else refused = answer.error;
      }),
    );
    socket.on('bench', ({ number, sent }) => {
      latencies.push(performance.now() - sent);
      const key = `${client}/${number}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
    });
    return socket;
  });
  await until('joining', 60, () => refused || joined >= clients);
  if (refused) throw new Error(`a join was refused: ${JSON.stringify(refused)}`);
  console.log(`${clients} clients in ${rooms} rooms after ${((performance.now() - began) / 1000).toFixed(1)} s`);

  const membersOf = (room) => Math.floor(clients / rooms) + (room < clients % rooms ? 1 : 0);
  let expected = 0;
  const answers = [];
  const start = performance.now();
  for (let number = 0; number < messages; number += 1) {
    const wait = start + (number * 1000) / rate - performance.now();
    if (wait > 0) await sleep(wait);
    expected += membersOf(number % rooms);
    const body = { to: { room: roomOf(number) }, event: 'bench', data: { number, sent: performance.now() } };
    answers.push(post(body).then(({ status }) => status, (error) => error.cause?.code ?? String(error)));
  }
  const statuses = {};
  for (const status of await Promise.all(answers)) statuses[status] = (statuses[status] ?? 0) + 1;
  const took = (performance.now() - start) / 1000;
  await until('deliveries', 30, () => seen.size >= expected).catch(() => {});
  sockets.forEach((socket) => socket.disconnect());

  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))]?.toFixed(1);
  const twice = [...seen.values()].filter((count) => count > 1).length;
  console.log(`${messages} messages in ${took.toFixed(1)} s (${(messages / took).toFixed(0)}/s); answers ${JSON.stringify(statuses)}`);
  console.log(`${seen.size} of ${expected} deliveries (${(latencies.length / took).toFixed(0)}/s), ${twice} twice`);
  console.log(`POST to handler, ms: p50 ${at(0.5)}, p95 ${at(0.95)}, p99 ${at(0.99)}, most ${at(1)}`);
  console.log(`on ${os.cpus().length} × ${os.cpus()[0]?.model ?? 'unknown'}; development build; clients on the same machine`);
  return seen.size === expected && twice === 0;
}

let server;
let right = false;
try {
  if (!values.url) {
    server = spawn(binary, ['dev'], { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, CARILLON_LOG__LEVEL: 'warn' } });
    const ended = new Promise((_, reject) => {
      server.on('error', reject);
      server.on('exit', (code) => reject(new Error(`carillon dev ended with ${code}`)));
    });
    ended.catch(() => {});
    const ready = () => fetch('http://127.0.0.1:9090/readyz').then(({ ok }) => ok, () => false);
    await Promise.race([until('carillon dev', 30, ready), ended]);
  }
  right = await run();
} catch (error) {
  console.error(`bench: ${error.message}`);
} finally {
  server?.removeAllListeners('exit');
  server?.kill('SIGTERM');
}
process.exit(right ? 0 : 1);
