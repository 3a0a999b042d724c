// `carillon dev`: one process, no Redis; stock clients get what a curl posts, byte for byte.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { canary } from '../lib/canaries.js';
import { post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { until } from '../lib/until.js';

let dev;
before(async () => { dev = await Service.start('dev'); });
after(() => dev?.kill());

const data = { text: `grüße, 世界 🔔 ${canary('payload')}`, nested: [{ deep: { er: [1, 2.5, null, true] } }], empty: '' };

const transports = {
  'default options (polling, then upgrade)': {},
  'WebSocket only': { transports: ['websocket'] },
  'polling only': { transports: ['polling'] },
};

for (const [name, options] of Object.entries(transports)) {
  test(`a stock client with ${name} gets what was posted`, async () => {
    const socket = io(dev.url, { forceNew: true, ...options });
    const received = [];
    socket.onAny((event, ...args) => received.push([event, ...args]));
    await until('connected', () => socket.connected);
    const joined = await socket.emitWithAck('join', { room: 'lobby' });
    assert.equal(joined.ok, true);
    const curl = execFileSync('curl', ['-sS', '-X', 'POST', `${dev.ingest}/v1/messages`, '-H', 'content-type: application/json', '-d', JSON.stringify({ to: { room: 'lobby' }, event: 'price', data })]);
    const { id, rooms } = JSON.parse(curl);
    const bytes = Buffer.from([...Array.from({ length: 256 }, (_, byte) => byte), ...Buffer.from(canary('payload'))]);
    const binary = await post(dev.ingest, { to: { room: 'lobby' }, event: 'blob', data_base64: bytes.toString('base64') });
    assert.equal(binary.status, 202);
    const messages = await until('both came', () => {
      const found = received.filter(([event]) => event !== 'cursors');
      return found.length >= 2 && found;
    });
    assert.deepEqual(messages[0][1], data);
    assert.equal(messages[0][0], 'price');
    assert.equal(messages[0][2].id, id);
    assert.equal(messages[0][2].offset, rooms[0].offset);
    assert.equal(messages[0][2].room, 'lobby');
    assert.deepEqual(Buffer.from(messages[1][1]), bytes);
    socket.close();
  });
}

test('it prints where everything is', async () => {
  const output = dev.output();
  for (const address of [`${dev.url}/`, `${dev.ingest}/v1/messages`, dev.admin]) assert.ok(output.includes(address), output);
  const page = await fetch(`${dev.url}/`);
  assert.equal(page.status, 200);
  assert.match(await page.text(), /id="log"/);
});

// From the first word of a command to the end of its last line.
const curls = (text) => text.match(/^ *curl (?:.*\\\n)*.*$/gm) ?? [];
const readme = fs.readFileSync(path.resolve(import.meta.dirname, '../../README.md'), 'utf8');

for (const [where, text] of Object.entries({ 'README shows': () => readme, 'it prints': () => dev.output() })) {
  test(`the curl that ${where} makes a message appear to whoever has only connected`, async (t) => {
    const [curl, ...more] = curls(text());
    assert.ok(curl && more.length === 0, `one curl: ${[curl, ...more]}`);
    // README names the ports that `make run` takes.
    const command = curl.replaceAll('http://127.0.0.1:8080/', `${dev.ingest}/`);
    assert.ok(command.includes(`${dev.ingest}/v1/messages`), command);
    const asked = JSON.parse(/'(\{.*\})'/s.exec(command)[1]);

    // As the page when it is opened, in two tabs: nothing is joined.
    const heard = [[], []];
    const tabs = heard.map((lines) => {
      const socket = io(dev.url, { forceNew: true });
      t.after(() => socket.close());
      socket.on('chat message', (line, meta) => lines.push([line, meta.id]));
      return socket;
    });
    await until('both are connected', () => tabs.every((tab) => tab.connected));
    const { id } = JSON.parse(execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
    await until('it appears in both', () => heard.every((lines) => lines.length > 0));
    for (const lines of heard) assert.deepEqual(lines, [[asked.data, id]]);
  });
}

test('clients publish with an acknowledgement, in order', async () => {
  const sender = io(dev.url, { forceNew: true });
  const listener = io(dev.url, { forceNew: true });
  const got = [];
  listener.on('line', (text) => got.push(text));
  await until('connected', () => sender.connected && listener.connected);
  await listener.emitWithAck('join', { room: 'order' });
  const acks = await Promise.all(Array.from({ length: 200 }, (_, n) => sender.emitWithAck('publish', { room: 'order', event: 'line', data: n })));
  assert.ok(acks.every((ack) => ack.ok && ack.id && ack.offset));
  await until('all came', () => got.length === 200);
  assert.deepEqual(got, Array.from({ length: 200 }, (_, n) => n));
  sender.close();
  listener.close();
});

test('SIGTERM ends it with code 0', async () => {
  const other = await Service.start('dev');
  assert.deepEqual(await other.stop(), { code: 0, signal: null });
});
