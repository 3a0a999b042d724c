// gRPC: a Python client generated from the .proto alone sends what a stock Socket.IO client hears.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { canary } from '../lib/canaries.js';
import { OpenCall, grpc } from '../lib/grpc.js';
import { Listener } from '../lib/listener.js';
import { post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const service = 'carillon.v1.Publisher';
const to = (room) => ({ to: { room }, event: 'price' });
const say = (room, data) => ({ ...to(room), data: JSON.stringify(data) });
const bytes = Buffer.from([...Array.from({ length: 256 }, (_, byte) => byte), ...Buffer.from(canary('grpc-bytes'))]).toString('base64');
let dev;

before(async () => { dev = await Service.start('dev'); });
after(() => dev.kill());

test('a message by gRPC and one by HTTP are the same to a listener', async () => {
  const listener = new Listener(dev.url, { rooms: ['lobby'] });
  await until('it listens', () => listener.settled);
  const data = { text: `grüße, 世界 🔔 ${canary('grpc-payload')}`, nested: [{ deep: { er: [1, 2.5, null, true] } }], empty: '' };
  const [kept, binary] = await grpc('unary', dev.grpc, [say('lobby', data), { ...to('lobby'), data_bytes: bytes }]);
  await post(dev.ingest, { ...to('lobby'), data });
  await post(dev.ingest, { ...to('lobby'), data_base64: bytes });
  const received = await until('all came', () => listener.of('lobby').length === 4 && listener.of('lobby'));
  const [grpcJson, grpcBytes, httpJson, httpBytes] = received;
  assert.equal(grpcJson.id, kept.id);
  assert.equal(grpcJson.offset, kept.rooms[0].offset);
  assert.equal(grpcBytes.id, binary.id);
  const same = ({ event, data: content, room }) => ({ event, content, room });
  assert.deepEqual(same(grpcJson), same(httpJson));
  assert.deepEqual(same(grpcBytes), same(httpBytes));
  assert.equal(Buffer.from(grpcBytes.data).toString('base64'), bytes);
  listener.close();
});

test('every target reaches its rooms', async () => {
  const targets = [{ room: 'a' }, { rooms: { names: ['a', 'b'] } }, { user: '1' }, { users: { names: ['1', '2'] } }, { session: 's' }, { all: true }];
  const answers = await grpc('unary', dev.grpc, targets.map((target) => ({ to: target, event: 'e', data: '1' })));
  assert.deepEqual(
    answers.map((answer) => answer.rooms.map(({ room }) => room)),
    [['a'], ['a', 'b'], ['user:1'], ['user:1', 'user:2'], ['session:s'], ['all']],
  );
});

test('mistakes come as field violations', async () => {
  const [wrong] = await grpc('unary', dev.grpc, [{ to: { room: '' }, event: 'connect', data: `{ ${canary('grpc-payload', 'malformed')}` }]);
  assert.equal(wrong.code, 'INVALID_ARGUMENT');
  assert.deepEqual(wrong.BadRequest.field_violations.map(({ field }) => field), ['to.room', 'event', 'data']);
  assert.equal(wrong.ErrorInfo.reason, 'INVALID');
  assert.deepEqual(wrong.Problem.fields.map(({ field }) => field), ['to.room', 'event', 'data']);
  const [large] = await grpc('unary', dev.grpc, [{ ...to('lobby'), data_bytes: Buffer.from(canary('grpc-bytes', 'large').padEnd(70_000, 'x')).toString('base64') }]);
  assert.equal(large.code, 'INVALID_ARGUMENT');
  assert.deepEqual([large.ErrorInfo.metadata.limit, large.ErrorInfo.metadata.allowed], ['ingest.message', '65536']);
});

test('a stream is answered message by message, in order, and a bad one does not end it', async () => {
  const listener = new Listener(dev.url, { rooms: ['street'] });
  await until('it listens', () => listener.settled);
  const messages = Array.from({ length: 500 }, (_, n) => (n === 250 ? to('street') : say('street', [n, canary('grpc-payload', 'each')])));
  const answers = await grpc('each', dev.grpc, messages);
  assert.deepEqual(answers.map(({ index }) => Number(index)), messages.map((_, n) => n));
  assert.deepEqual([answers[250].problem.reason, answers[250].problem.outcome], ['invalid', 'OUTCOME_REFUSED']);
  assert.equal(answers[250].problem.fields[0].field, 'data');
  const kept = answers.filter(({ published }) => published);
  assert.equal(kept.length, 499);
  await until('all came', () => listener.of('street').length === 499);
  assert.deepEqual(listener.of('street').map(({ id }) => id), kept.map(({ published }) => published.id));
  listener.close();
});

test('each answer comes while the stream is open', async () => {
  const answers = await grpc('lockstep', dev.grpc, [say('lobby', 1), to('lobby'), say('lobby', 2)]);
  assert.deepEqual(answers.map(({ published }) => Boolean(published)), [true, false, true]);
});

test('a whole stream has one answer, which counts and says why', async () => {
  const messages = Array.from({ length: 1_000 }, (_, n) => (n % 10 === 9 ? to('yard') : { ...to('yard'), idempotency_key: `${canary('idempotency-key', 'grpc')} ${n}`, data: `${n}` }));
  const listener = new Listener(dev.url, { rooms: ['yard'] });
  await until('it listens', () => listener.settled);
  const summary = await grpc('stream', dev.grpc, messages);
  assert.deepEqual([summary.messages, summary.accepted, summary.refused, summary.unknown], ['1000', '900', '100', '0']);
  assert.deepEqual(summary.problems.map(({ index }) => Number(index)), Array.from({ length: 100 }, (_, n) => n * 10 + 9));
  await until('all came', () => listener.of('yard').length === 900);
  assert.deepEqual(listener.of('yard').map(({ data }) => data), messages.flatMap((_, n) => (n % 10 === 9 ? [] : [n])));
  listener.close();
});

test('who does not read answers is not read', async () => {
  const told = await grpc('flood', dev.grpc, [{ ...to(''), data: JSON.stringify(canary('grpc-payload', 'flood').padEnd(1_000, 'x')) }], { GRPC_METRICS: `${dev.admin}/metrics` });
  assert.ok(told.stuck < told.total, `all ${told.total} messages were taken, and no answer was`);
  assert.deepEqual([told.answers, told.in_order], [told.sent, true]);
});

test('a tool that knows only the address finds its way', async () => {
  const { services, answer } = await grpc('reflect', dev.grpc, [say('lobby', 1)]);
  for (const name of [service, 'grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection']) {
    assert.ok(services.includes(name), services.join());
  }
  assert.equal(answer.rooms[0].room, 'lobby');
});

test('it prints where gRPC is', () => assert.ok(dev.output().includes(dev.grpc), dev.output()));

test('keys open their rooms, quotas say when to come again, and neither keys nor payloads are logged', async () => {
  const [key, payload] = [canary('grpc-key'), canary('grpc-payload', 'by a key')];
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  const hash = createHash('sha256').update(key).digest('hex');
  fs.writeFileSync(policy, `producers:\n- { name: desk, key_sha256: ${hash}, rooms: [lobby], rate: 1/h, burst: 3 }\n`);
  const guarded = await Service.start('dev', { CARILLON_POLICY__FILE: policy });
  try {
    const [stranger] = await grpc('unary', guarded.grpc, [say('lobby', 1)]);
    assert.equal(stranger.code, 'UNAUTHENTICATED');
    const [stream] = await grpc('each', guarded.grpc, [say('lobby', 1)], { GRPC_KEY: canary('grpc-key', 'wrong') });
    assert.equal(stream.code, 'UNAUTHENTICATED');
    const env = { GRPC_KEY: key };
    const answers = await grpc('unary', guarded.grpc, [say('attic', payload), say('lobby', payload), say('lobby', 2)], env);
    assert.deepEqual(answers.map(({ code }) => code), ['PERMISSION_DENIED', undefined, undefined]);
    assert.equal(answers[0].ErrorInfo.metadata.room, 'attic');
    const [third, fourth] = await grpc('each', guarded.grpc, [say('lobby', payload), say('lobby', 4)], env);
    assert.ok(third.published, JSON.stringify(third));
    assert.equal(fourth.problem.reason, 'quota');
    const [fifth] = await grpc('unary', guarded.grpc, [say('lobby', 5)], env);
    assert.equal(fifth.code, 'RESOURCE_EXHAUSTED');
    const wait = Number(fifth.RetryInfo.retry_delay.replace('s', ''));
    assert.ok(wait > 3_000 && wait <= 3_600, `${wait}`);
    assert.equal(fifth.ErrorInfo.metadata.outcome, 'refused');
    const log = guarded.output();
    assert.match(log, /publish_grpc/);
    for (const secret of [key, payload]) assert.ok(!log.includes(secret), `${secret} is in ${guarded.log}`);
  } finally {
    await guarded.kill();
  }
});

test('health follows Redis, and a drain is the last thing it tells', async () => {
  const redis = await Redis.start();
  const ingest = await Service.start('ingest', { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: openPolicy() });
  const watch = new OpenCall('watch', ingest.grpc, service);
  const open = new OpenCall('until-told', ingest.grpc, [say('lobby', 1)]);
  await until('it serves', () => watch.lines.at(-1) === 'SERVING');
  await until('the message is kept', () => open.lines[0]?.published);
  await redis.child.kill();
  await until('it does not serve', () => watch.lines.at(-1) === 'NOT_SERVING');
  const [refused] = await grpc('unary', ingest.grpc, [say('lobby', 2)]);
  assert.equal(refused.code, 'UNAVAILABLE');
  assert.ok(['refused', 'unknown'].includes(refused.ErrorInfo.metadata.outcome), JSON.stringify(refused));
  assert.ok(refused.RetryInfo);
  await redis.run();
  await until('it serves again', () => watch.lines.at(-1) === 'SERVING');
  const { code } = await ingest.stop();
  assert.equal(code, 0);
  assert.equal(await watch.ended, 0, watch.complaints);
  assert.equal(watch.lines.at(-1), 'NOT_SERVING');
  await open.ended;
  const last = open.lines.at(-1);
  assert.deepEqual([last.code, last.ErrorInfo.metadata.outcome], ['UNAVAILABLE', 'refused']);
  await redis.stop();
});

test('over TLS, and only over TLS, where there is a certificate', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-tls-'));
  const [certificate, key] = ['certificate.pem', 'key.pem'].map((name) => path.join(folder, name));
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost',
    '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', certificate,
  ], { stdio: 'ignore' });
  const secured = await Service.start('dev', {
    CARILLON_INGEST__GRPC__TLS__CERTIFICATE: certificate,
    CARILLON_INGEST__GRPC__TLS__KEY: key,
  });
  try {
    const [kept] = await grpc('unary', secured.grpc, [say('lobby', 1)], { GRPC_CA: certificate });
    assert.ok(kept.id, JSON.stringify(kept));
    const answers = await grpc('each', secured.grpc, [say('lobby', 2), say('lobby', 3)], { GRPC_CA: certificate });
    assert.equal(answers.filter(({ published }) => published).length, 2);
    const [plain] = await grpc('unary', secured.grpc, [say('lobby', 4)]);
    assert.equal(plain.code, 'UNAVAILABLE');
  } finally {
    await secured.kill();
  }
  const anywhere = { CARILLON_ADMIN__LISTEN: '127.0.0.1:0', CARILLON_GATEWAY__LISTEN: '127.0.0.1:0' };
  const started = (env) => spawnSync(process.env.E2E_BINARY, ['dev'], { env: { ...process.env, ...anywhere, ...env }, encoding: 'utf8', timeout: 30_000 });
  const half = started({ CARILLON_INGEST__GRPC__TLS__CERTIFICATE: certificate });
  assert.equal(half.status, 64);
  assert.match(half.stderr, /belong together/);
  const wrong = started({ CARILLON_INGEST__GRPC__TLS__CERTIFICATE: key, CARILLON_INGEST__GRPC__TLS__KEY: key });
  assert.equal(wrong.status, 64);
  assert.match(wrong.stderr, /no certificate in it/);
});

function openPolicy() {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(file, 'anonymous: { sessions: true, producers: true }\n');
  return file;
}
