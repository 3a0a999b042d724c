// Whoever writes a policy hears where it holds: every service reports the revision it applies, and applies a new one in seconds.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const OPEN = 'anonymous: { sessions: true, producers: true }\n';
const KINDS = ['dispatcher', 'gateway', 'ingest'];
const SECONDS = 10_000;
const children = [];
let redis;

const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { CARILLON_REDIS__URL: redis.url, ...more });
  children.push(service);
  return service;
};
/** What the living say of themselves: kind → revision. */
const members = () => redis.cli('HVALS', 'carillon:members').split('\n').filter(Boolean).map((line) => JSON.parse(line));
const reported = (revision) => () => {
  const all = members();
  return KINDS.every((kind) => all.some((member) => member.kind === kind)) && all.every((member) => member.policy_revision === revision);
};
const store = (revision, document) => redis.cli('HSET', 'carillon:policy', 'revision', revision, 'document', document);

before(async () => { redis = await Redis.start(); });
after(async () => {
  for (const child of children.reverse()) await child.kill();
  await redis.stop();
});

test('three services report each revision of the snapshot, and keep what they have when one is wrong', async () => {
  const services = [];
  for (const kind of KINDS) services.push(await start(kind));
  const ingest = services.at(-1);
  await until('all are members', () => members().length === 3);
  const message = { to: 'all', event: 'tick', data: 1 };
  assert.equal((await post(ingest.ingest, message)).status, 401, 'by default nobody may');

  store('first', OPEN);
  await until('all report the first', reported('first'), SECONDS);
  assert.equal((await post(ingest.ingest, message)).status, 202);
  for (const service of services) assert.equal(await service.metric('carillon_policy_info', '"first"'), 1);

  store('wrong', 'gateways: { rebalance: { rate: quick, within: 1 } }');
  await until('all refuse the wrong one', async () => (await Promise.all(services.map((service) => service.metric('carillon_policy_rejected_total')))).every((count) => count === 1), SECONDS);
  assert.ok(reported('first')(), 'what held holds');
  assert.ok(services.every((service) => service.output().includes('gateways.rebalance.rate') && service.output().includes('gateways.rebalance.within')));

  store('third', `${OPEN}gateways: { drain_rate: 50/s }\n`);
  await until('all report the third', reported('third'), SECONDS);

  // One that comes later is ready only once it knows: it never turns anybody away by the defaults.
  const late = await start('ingest');
  assert.equal((await post(late.ingest, message)).status, 202);
  assert.equal((await late.stop()).code, 0);
  await until('who has left is no member', () => members().length === 3, SECONDS);
});

test('a file is reported as truly, and as soon', async () => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(file, OPEN);
  const services = [];
  for (const kind of KINDS) services.push(await start(kind, { CARILLON_POLICY__FILE: file }));
  const own = () => members().filter((member) => services.some(({ name }) => member.incarnation.startsWith(`${name}@`)));
  const agreed = () => {
    const revisions = new Set(own().map((member) => member.policy_revision));
    return own().length === 3 && revisions.size === 1 && [...revisions][0];
  };
  const before = await until('all report the file', agreed, SECONDS);
  assert.notEqual(before, 'third');
  fs.writeFileSync(file, `${OPEN}rooms: [ { match: "lobby", join: anyone } ]\n`);
  await until('all report the new one', () => agreed() && agreed() !== before, SECONDS + 5_000);
});
