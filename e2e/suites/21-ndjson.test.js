// NDJSON: an answer for each line while the body is open, in order, and nobody is read who does not read.
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { canary } from '../lib/canaries.js';
import { sh } from '../lib/cli.js';
import { Flood } from '../lib/flood.js';
import { Listener } from '../lib/listener.js';
import { compare } from '../lib/offsets.js';
import { LineStream } from '../lib/ndjson.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const say = (room, data, more = {}) => ({ to: { room }, event: 'tick', data, ...more });
let dev;

before(async () => { dev = await Service.start('dev'); });
after(() => dev.kill());

for (const version of [1, 2]) {
  test(`each line is answered while the body is open (HTTP/${version})`, async () => {
    const room = `room-${version}`;
    const listener = new Listener(dev.url, { rooms: [room] });
    await until('it listens', () => listener.settled);
    const stream = new LineStream(dev.ingest, { version });
    for (let line = 1; line <= 20; line += 1) {
      stream.send(say(room, line));
      const answer = await until('it is answered', () => stream.lines[line - 1]);
      assert.deepEqual([answer.line, answer.status, answer.rooms[0].room], [line, 202, room]);
    }
    const { status, type } = await stream.opened;
    assert.deepEqual([status, type], [200, 'application/x-ndjson']);
    await stream.end();
    await until('all came', () => listener.of(room).length === 20);
    assert.deepEqual(listener.of(room).map(({ id }) => id), stream.lines.map(({ id }) => id));
    assert.deepEqual(listener.of(room).map(({ data }) => data), stream.lines.map(({ line }) => line));
    listener.close();
  });
}

test('many lines keep the order of each room', async () => {
  const rooms = ['north', 'east', 'south', 'west'];
  const listener = new Listener(dev.url, { rooms });
  await until('it listens', () => listener.settled);
  const stream = new LineStream(dev.ingest);
  const count = 4_000;
  for (let n = 0; n < count; n += 100) stream.send(...Array.from({ length: 100 }, (_, more) => say(rooms[(n + more) % 4], n + more)));
  const answers = await stream.end();
  assert.deepEqual(answers.map(({ line }) => line), Array.from({ length: count }, (_, n) => n + 1));
  assert.ok(answers.every(({ status }) => status === 202));
  await until('all came', () => rooms.every((room) => listener.of(room).length === count / 4));
  rooms.forEach((room, place) => {
    assert.deepEqual(listener.of(room).map(({ data }) => data), Array.from({ length: count / 4 }, (_, n) => n * 4 + place));
  });
  listener.close();
});

test('a bad line is answered with its place, and the stream goes on', async () => {
  const stream = new LineStream(dev.ingest);
  const secret = canary('ndjson-payload', 'malformed');
  stream.send(say('lobby', 1), `{"${secret}"\n`, '\n', { to: { room: 7 }, event: 'e', data: secret }, `"${secret.padEnd(2 << 20, 'x')}"\n`, JSON.stringify(say('lobby', 2)));
  const answers = await stream.end();
  assert.deepEqual(answers.map(({ line, status }) => [line, status]), [[1, 202], [2, 400], [4, 422], [5, 413], [6, 202]]);
  assert.match(answers[1].type, /malformed$/);
  assert.deepEqual([answers[2].field, answers[2].column], ['to.room', 15]);
  assert.equal(answers[3].limit, 'ingest.body');
});

test('bytes and text of whoever has a key arrive as they were', async () => {
  const key = canary('ndjson-key');
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  const hash = createHash('sha256').update(key).digest('hex');
  fs.writeFileSync(policy, `anonymous: { sessions: true }\nrooms: [{ match: "*", join: anyone }]\nproducers: [{ name: desk, key_sha256: ${hash}, rooms: [lobby] }]\n`);
  const guarded = await Service.start('dev', { CARILLON_POLICY__FILE: policy });
  try {
    const listener = new Listener(guarded.url, { rooms: ['lobby'] });
    await until('it listens', () => listener.settled);
    const bytes = Buffer.from([0, 255, ...Buffer.from(canary('ndjson-bytes'))]);
    const text = { 'grüße, 世界 🔔': canary('ndjson-payload') };
    const stream = new LineStream(guarded.ingest, { headers: { authorization: `Bearer ${key}` } });
    stream.send({ to: { room: 'lobby' }, event: 'tick', data_base64: bytes.toString('base64') }, say('lobby', text), say('attic', text));
    assert.deepEqual((await stream.end()).map(({ status }) => status), [202, 202, 403]);
    await until('both came', () => listener.of('lobby').length === 2);
    assert.deepEqual(listener.of('lobby').map(({ data }) => (Buffer.isBuffer(data) ? Buffer.from(data) : data)), [bytes, text]);
    listener.close();
  } finally {
    await guarded.kill();
  }
});

test('curl sends lines as the producer guide says', () => {
  const line = '{"to":{"room":"lobby"},"event":"tick","data":%d}\\n';
  const told = sh(`printf '${line}' 1 2 3 | curl -sSN -X POST -T - ${dev.ingest}/v1/messages -H 'content-type: application/x-ndjson'`);
  assert.deepEqual(told.stdout.trim().split('\n').map((text) => JSON.parse(text).line), [1, 2, 3], told.stderr);
});

test('who may not open a stream is told with a status', async () => {
  const keyed = new LineStream(dev.ingest, { headers: { 'idempotency-key': canary('idempotency-key', 'header') } });
  assert.equal((await keyed.opened).status, 422);
  const packed = new LineStream(dev.ingest, { headers: { 'content-encoding': 'gzip' } });
  assert.equal((await packed.opened).status, 415);
  const stranger = new LineStream(dev.ingest, { headers: { authorization: `Bearer ${canary('ndjson-key', 'wrong')}` } });
  assert.equal((await stranger.opened).status, 401);
  await Promise.all([keyed, packed, stranger].map((stream) => stream.end()));
});

/** What a stream may hold at a time: a window, what is read with it, and what the kernel and HTTP move at a time. */
const WINDOW = 1 << 20;
const arrived = (service) => service.metric('carillon_ingest_arrivals_total', 'door="ndjson"');
const memory = (service) => service.metric('process_resident_memory_bytes');

test('who does not read answers is not read, and costs no memory', async () => {
  const [before, earlier] = [await memory(dev), await arrived(dev)];
  const lines = 60_000;
  // Wrong lines, so that nothing but the answers can hold them up.
  const line = `{"${canary('ndjson-payload').padEnd(1_000, 'x')}":1}\n`;
  const flood = new Flood(dev.ingest, line.repeat(lines));
  await flood.stuck(() => arrived(dev));
  const answered = await arrived(dev) - earlier;
  assert.ok(answered > 0 && answered < lines, `${answered} of ${lines} lines are answered`);
  const held = flood.taken - answered * line.length;
  assert.ok(held < WINDOW, `${held} bytes were taken beyond the ${answered} lines that are answered`);
  const grown = await memory(dev) - before;
  assert.ok(grown < 16 << 20, `it grew by ${grown} bytes`);
  const answers = await flood.answers();
  assert.equal(answers.length, lines);
  assert.ok(answers.every(({ status }, n) => status === 422 && answers[n].line === n + 1));
});

test('while Redis hangs a window is taken and no more; when it goes on every line is answered, in order', async () => {
  const redis = await Redis.start();
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: true, producers: true }\n');
  // So patient that no line is given up.
  const ingest = await Service.start('ingest', {
    CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy, CARILLON_REDIS__TIMEOUT: '30s', CARILLON_INGEST__TIMEOUT: '60s',
  });
  try {
    const lines = 40_000;
    const line = `${JSON.stringify(say('lobby', canary('ndjson-payload').padEnd(1_000, 'x')))}\n`;
    const before = await memory(ingest);
    redis.child.signal('SIGSTOP');
    const flood = new Flood(ingest.ingest, line.repeat(lines));
    await flood.stuck(() => arrived(ingest));
    assert.equal(await arrived(ingest), 0, 'nothing can have been answered');
    assert.ok(flood.sent < flood.bytes.length / 2, `the sender got rid of ${flood.sent} of ${flood.bytes.length} bytes`);
    assert.ok(flood.taken < WINDOW, `${flood.taken} bytes were taken`);
    const grown = await memory(ingest) - before;
    assert.ok(grown < 16 << 20, `it grew by ${grown} bytes`);
    redis.child.signal('SIGCONT');
    const answers = await flood.answers();
    assert.deepEqual(answers.filter(({ status }) => status !== 202).slice(0, 3), []);
    assert.deepEqual(answers.map((answer) => answer.line), Array.from({ length: lines }, (_, n) => n + 1));
    const offsets = answers.map(({ rooms }) => rooms[0].offset);
    assert.ok(offsets.every((offset, n) => n === 0 || compare(offset, offsets[n - 1]) > 0), 'in the order of the lines');
    assert.equal(await arrived(ingest), lines);
  } finally {
    redis.child.signal('SIGCONT');
    await ingest.kill();
    await redis.stop();
  }
});

test('half a line is waited for so long, and a stream without lines as long as it likes', async () => {
  const hasty = await Service.start('dev', { CARILLON_INGEST__BODY_TIMEOUT: '300ms' });
  try {
    const patient = new LineStream(hasty.ingest);
    const stream = new LineStream(hasty.ingest);
    stream.send(say('lobby', 1), '{"to":');
    await stream.ended;
    assert.deepEqual(stream.lines.map(({ status, line }) => [status, line]), [[202, 1], [408, 2]]);
    patient.send(say('lobby', 2));
    assert.deepEqual((await patient.end()).map(({ status }) => status), [202]);
  } finally {
    await hasty.kill();
  }
});

test('a drain answers what it has read, says so, and what is left goes on elsewhere; so it does after a kill', async () => {
  const redis = await Redis.start();
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: true, producers: true }\nrooms:\n- { match: "*", join: anyone, history: { size: 10000, age: 1h, bytes: 16MiB } }\n');
  const settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy };
  const [gateway, dispatcher] = await Promise.all(['gateway', 'dispatcher'].map((kind) => Service.start(kind, settings)));
  const listener = new Listener(gateway.url, { rooms: ['tower'] });
  await until('it listens', () => listener.settled);

  const messages = Array.from({ length: 3_000 }, (_, n) => say('tower', n, { idempotency_key: `${canary('idempotency-key', 'ndjson')} ${randomUUID()}` }));
  const accepted = [];
  let next = 0;
  // Sends from the first line without an answer, until the stream ends or the test has enough of it.
  const send = async (ingest, end) => {
    const from = next;
    const stream = new LineStream(ingest.ingest);
    for (let n = from; n < messages.length && !stream.error; n += 10) {
      stream.send(...messages.slice(n, n + 10));
      await until('it is read, or the stream is over', () => stream.error || stream.lines.length >= n - from - 50 || stream.lines.some(({ line }) => !line));
      if (n - from === 500) end?.();
      if (stream.lines.some(({ line }) => !line)) break;
    }
    stream.request.end();
    await stream.ended;
    const answers = stream.lines.filter(({ line }) => line);
    for (const { line, status, id, rooms } of answers) {
      assert.equal(status, 202);
      accepted.push({ id, ...rooms[0] });
      next = from + line;
    }
    return stream.lines.at(-1);
  };

  const drained = await Service.start('ingest', settings);
  const last = await send(drained, () => drained.signal('SIGTERM'));
  assert.deepEqual([last.status, last.outcome, last.line], [503, 'refused', undefined]);
  assert.equal((await drained.ended).code, 0);
  assert.ok(next >= 450 && next < 3_000, `${next}`);

  const killed = await Service.start('ingest', settings);
  await send(killed, () => killed.kill());
  assert.ok(next < 3_000, `${next}`);

  const whole = await Service.start('ingest', settings);
  await send(whole);
  assert.equal(next, 3_000);
  await until('all came', () => listener.of('tower').length >= 3_000);
  assert.deepEqual(listener.of('tower').map(({ data }) => data), messages.map(({ data }) => data));
  assert.deepEqual(listener.audit(accepted, ['tower']), []);
  listener.close();
  await Promise.all([gateway, dispatcher, whole].map((service) => service.kill()));
  await redis.stop();
});
