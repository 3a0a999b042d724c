// Settings and policy: every mistake at once, exit 64; a wrong change keeps the old policy; Redis may come later.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { Listener } from '../lib/listener.js';
import { freePort } from '../lib/ports.js';
import { post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const run = (args, env = {}) => spawnSync(process.env.E2E_BINARY, args, { env: { ...process.env, ...env }, encoding: 'utf8', timeout: 20_000 });

test('all mistakes at once, with their places, and exit 64', () => {
  const { status, stderr } = run(['gateway', '--gateway.drain.timeout', 'soon', '--nonsense', '1'], { CARILLON_REDIS__CONNECTIONS: 'many', CARILLON_GATEWAY__LISTN: 'x' });
  assert.equal(status, 64, stderr);
  for (const named of ['gateway.drain.timeout', 'nonsense', 'CARILLON_REDIS__CONNECTIONS', 'CARILLON_GATEWAY__LISTN']) assert.ok(stderr.includes(named), stderr);
});

test('--print-settings shows where each value came from, and no secret', () => {
  const { status, stdout } = run(['gateway', '--print-settings', '--gateway.shards', '3'], { CARILLON_REDIS__URL: 'redis://me:hush@localhost', CARILLON_IDENTITY__HS256_SECRET: 'hush' });
  assert.equal(status, 0);
  assert.match(stdout, /gateway\.shards.*3.*flag/);
  assert.match(stdout, /redis\.url.*CARILLON_REDIS__URL/);
  assert.ok(!stdout.includes('hush'), stdout);
});

test('a wrong policy is refused whole at start', () => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(file, 'rooms:\n- { match: a, join: everybody }\n- { match: b, history: { age: long } }\n');
  const { status, stdout, stderr } = run(['dev', '--policy.file', file, '--gateway.listen', '127.0.0.1:0', '--ingest.http.listen', '127.0.0.1:0', '--ingest.grpc.listen', '127.0.0.1:0', '--admin.listen', '127.0.0.1:0']);
  assert.equal(status, 64);
  for (const named of ['rooms[0].join', 'rooms[1].history.age']) assert.ok((stdout + stderr).includes(named), stderr);
});

test('a wrong policy tells every mistake, of whatever kind', () => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(file, [
    'anonymous: { sessions: maybe }',
    'rooms:',
    '- { match: a, join: everybody }',
    '- { match: b, history: { size: many, age: long } }',
    '- { match: c, presense: true }',
    'rums: []',
  ].join('\n'));
  const { status, stdout } = run(['config', 'check', '--policy.file', file]);
  assert.equal(status, 64);
  for (const named of ['anonymous.sessions', 'rooms[0].join', 'rooms[1].history.size', 'rooms[1].history.age', 'rooms[2].presense', 'rums']) {
    assert.ok(stdout.includes(`${named}: `), `${named} is not told:\n${stdout}`);
  }
});

test('a changed policy that is wrong keeps the old one, and is counted', async (t) => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(file, 'anonymous: { sessions: true, producers: true }\n');
  const dev = await Service.start('dev', { CARILLON_POLICY__FILE: file, CARILLON_LOG__FORMAT: 'json' });
  t.after(() => dev.kill());
  const revision = async () => (await (await fetch(`${dev.admin}/metrics`)).text()).match(/carillon_policy_info\{revision="(\w+)"\}/)[1];
  const first = await revision();
  fs.writeFileSync(file, 'rooms:\n- { match: a, join: everybody }\n- { match: b, history: { age: long } }\n');
  await until('the wrong policy is counted', async () => (await dev.metric('carillon_policy_rejected_total')) === 1);
  assert.equal(await revision(), first);
  const lines = dev.output().split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line)).filter(({ level, path: of }) => level === 'ERROR' && of === file);
  assert.deepEqual(lines.map(({ message: text, revision: holds }) => [text, holds]), [['the changed policy file is wrong; the policy that holds stays', first]]);
  for (const named of ['rooms[0].join', 'rooms[1].history.age']) assert.ok(lines[0].problems.includes(named), lines[0].problems);
  const message = { to: 'all', event: 'price', data: 1 };
  assert.equal((await post(dev.ingest, message)).status, 202, 'by the old policy');
  fs.writeFileSync(file, 'anonymous: { sessions: true, producers: false }\n');
  await until('a right one is taken', async () => (await revision()) !== first);
  assert.equal((await post(dev.ingest, message)).status, 401, 'by the new one');
});

test('services started before Redis wait for it, and then work together', async (t) => {
  const port = await freePort();
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: true, producers: true }\n');
  const settings = { CARILLON_REDIS__URL: `redis://127.0.0.1:${port}`, CARILLON_POLICY__FILE: policy };
  const services = {};
  for (const kind of ['gateway', 'dispatcher', 'ingest']) {
    services[kind] = await Service.start(kind, settings, { ready: false });
    t.after(() => services[kind].kill());
  }
  for (const service of Object.values(services)) {
    await until(`${service.name} says why it is not ready`, async () => {
      const { ok, text } = await service.readiness();
      return !ok && /^fail redis: .*refused/m.test(text);
    });
  }
  const redis = await Redis.start({ port });
  t.after(() => redis.stop());
  for (const service of Object.values(services)) await service.ready();
  const listener = new Listener(services.gateway.url);
  t.after(() => listener.close());
  await until('settled', () => listener.settled);
  const { status, body } = await post(services.ingest.ingest, { to: 'all', event: 'price', data: 1 });
  assert.equal(status, 202);
  await until('the message came', () => listener.of('all').some(({ id }) => id === body.id));
  for (const service of Object.values(services)) assert.deepEqual(await service.stop(), { code: 0, signal: null });
});

test('a Redis that evicts is refused with what to change', async () => {
  const redis = await Redis.start();
  redis.cli('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
  const gateway = await Service.start('gateway', { CARILLON_REDIS__URL: redis.url }, { ready: false });
  await until('readyz says what to change', async () => /noeviction/.test((await gateway.readiness()).text));
  redis.cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
  await gateway.ready();
  await gateway.kill();
  await redis.stop();
});
