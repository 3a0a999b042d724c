// Events of the stock Python SDK become messages that a stock Socket.IO client hears.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { canary } from '../lib/canaries.js';
import { Service } from '../lib/processes.js';
import { runPython } from '../lib/python.js';
import { until } from '../lib/until.js';

const subject = '17 é';
const key = canary('cloudevents-key');
const [text, binary] = [canary('cloudevents-payload'), canary('cloudevents-bytes')];
const nested = { parcels: [{ kg: 1.5 }, null], to: `Zoë 🔔 ${text}` };
const authorization = `Bearer ${key}`;
const script = path.resolve(import.meta.dirname, '../lib/events.py');
let dev;
let policy;
let socket;

const say = (line) => fs.writeFileSync(policy, [
  'anonymous: { sessions: true }', 'rooms: [{ match: "*", join: anyone }]',
  `producers: [{ name: desk, key_sha256: ${createHash('sha256').update(key).digest('hex')}, rooms: ["*"] }]`, line,
].join('\n'));

before(async () => {
  policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  say('cloudevents: { to: { room: "orders-{subject}" } }');
  dev = await Service.start('dev', { CARILLON_POLICY__FILE: policy });
  socket = io(dev.url, { transports: ['websocket'], forceNew: true });
  await until('connected', () => socket.connected);
});
after(async () => {
  socket.close();
  await dev.kill();
});

const send = async () => (await runPython(script, [`${dev.ingest}/v1/cloudevents`, subject, text, binary], { env: { ...process.env, CLOUDEVENTS_KEY: key } })).trim().split('\n').map((line) => JSON.parse(line));

test('what the SDK sends in either mode arrives as the SDK was given it, once', async () => {
  const heard = [];
  socket.on('shipped', (data, meta) => heard.push({ data, meta }));
  assert.equal((await socket.emitWithAck('join', { room: `orders-${subject}` })).ok, true);
  const answers = await send();
  const [events, repeats, [reused, lost]] = [answers.slice(0, 8), answers.slice(8, 10), answers.slice(10)];
  for (const { status, body } of [...events, ...repeats]) assert.equal(status, 202, JSON.stringify(body));
  for (const { body } of repeats) assert.deepEqual(body, events[0].body);
  assert.deepEqual([reused.status, reused.body.type, reused.body.field], [422, 'https://carillon.dev/problems/key-reused', 'id']);
  assert.deepEqual([lost.status, lost.body.field], [422, 'subject']);
  assert.match(lost.body.detail, /orders-\{subject\}/);

  await until('all of them arrived', () => heard.length >= 8);
  const bytes = Buffer.from([0, 255, ...Buffer.from(binary)]);
  const plain = ({ data }) => (Buffer.isBuffer(data) ? Buffer.from(data) : data);
  assert.deepEqual(heard.map(plain), [nested, nested, `über <all> ${text}`, `über <all> ${text}`, bytes, bytes, null, null]);
  assert.deepEqual(heard.map(({ meta }) => meta.id), events.map(({ body }) => body.id));

  // Everything again, as a broker does that lost its answers: nothing is heard twice.
  assert.deepEqual(await send(), answers);
  await fetch(`${dev.ingest}/v1/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization },
    body: JSON.stringify({ to: { room: `orders-${subject}` }, event: 'shipped', data: 'last' }),
  });
  await until('the last one arrived', () => heard.at(-1).data === 'last');
  assert.equal(heard.length, 9);
});

test('the policy may send events to users, and must send them somewhere', async () => {
  const event = { specversion: '1.0', id: '1', source: '/', type: 'hello', subject: '42', data: text };
  const post = () => fetch(`${dev.ingest}/v1/cloudevents`, {
    method: 'POST',
    headers: { 'content-type': 'application/cloudevents+json', authorization },
    body: JSON.stringify({ ...event, id: String(Math.random()) }),
  });
  say('cloudevents: { to: { user: "{subject}" } }');
  await until('events go to users', async () => (await (await post()).json()).rooms?.[0].room === 'user:42');
  say('');
  const refused = await until('events go nowhere', async () => {
    const answer = await post();
    return answer.status === 403 && answer.json();
  });
  assert.match(refused.detail, /add to it .*cloudevents: \{ to: \{ room: "orders-\{subject\}" \} \}/);
});
