// NDJSON: an answer for each line while the body is open, in order, and nobody is read who does not read.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { sh } from '../lib/cli.js';
import { Listener } from '../lib/listener.js';
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
  stream.send(say('lobby', 1), '{"to"\n', '\n', { to: { room: 7 }, event: 'e', data: 1 }, `"${'x'.repeat(2 << 20)}"\n`, JSON.stringify(say('lobby', 2)));
  const answers = await stream.end();
  assert.deepEqual(answers.map(({ line, status }) => [line, status]), [[1, 202], [2, 400], [4, 422], [5, 413], [6, 202]]);
  assert.match(answers[1].type, /malformed$/);
  assert.deepEqual([answers[2].field, answers[2].column], ['to.room', 15]);
  assert.equal(answers[3].limit, 'ingest.body');
});

test('curl sends lines as the producer guide says', () => {
  const line = '{"to":{"room":"lobby"},"event":"tick","data":%d}\\n';
  const told = sh(`printf '${line}' 1 2 3 | curl -sSN -X POST -T - ${dev.ingest}/v1/messages -H 'content-type: application/x-ndjson'`);
  assert.deepEqual(told.stdout.trim().split('\n').map((text) => JSON.parse(text).line), [1, 2, 3], told.stderr);
});

test('who may not open a stream is told with a status', async () => {
  const keyed = new LineStream(dev.ingest, { headers: { 'idempotency-key': 'k' } });
  assert.equal((await keyed.opened).status, 422);
  const packed = new LineStream(dev.ingest, { headers: { 'content-encoding': 'gzip' } });
  assert.equal((await packed.opened).status, 415);
  const stranger = new LineStream(dev.ingest, { headers: { authorization: 'Bearer nobody' } });
  assert.equal((await stranger.opened).status, 401);
  await Promise.all([keyed, packed, stranger].map((stream) => stream.end()));
});

test('who does not read answers is not read, and costs no memory', async () => {
  const before = await dev.metric('process_resident_memory_bytes');
  const lines = 60_000;
  // Wrong lines, so that nothing but the answers can hold them up.
  const line = `{"${'x'.repeat(1_000)}":1}\n`;
  const part = Buffer.from(line.repeat(1_000));
  const socket = net.connect({ port: Number(new URL(dev.ingest).port), host: '127.0.0.1' });
  socket.pause();
  socket.on('error', () => {});
  socket.write('POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n');
  let taken = 0;
  const written = (async () => {
    for (let sent = 0; sent < lines; sent += 1_000) {
      await new Promise((resolve) => { socket.write(Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n')]), resolve); });
      taken = sent + 1_000;
    }
    socket.write('0\r\n\r\n');
  })();
  let last = -1;
  let since = Date.now();
  await until('it takes no more', () => {
    if (taken !== last) [last, since] = [taken, Date.now()];
    return Date.now() - since > 2_000;
  });
  assert.ok(taken < lines / 2, `${taken} of ${lines} lines were taken, and no answer was`);
  const grown = await dev.metric('process_resident_memory_bytes') - before;
  assert.ok(grown < 48 << 20, `it grew by ${grown} bytes`);
  let answers = 0;
  let tail = '';
  socket.setEncoding('latin1').on('data', (text) => {
    const all = tail + text;
    answers += all.split('"status":422').length - 1;
    // One less than a whole one, which would be counted again.
    tail = all.slice(-11);
  });
  socket.resume();
  await written;
  await until('every line is answered', () => answers === lines, 120_000);
  socket.destroy();
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

  const messages = Array.from({ length: 3_000 }, (_, n) => say('tower', n, { idempotency_key: randomUUID() }));
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
