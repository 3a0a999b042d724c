// Producers have keys, rooms they may send to, and a quota that tells them where they stand.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { canary } from '../lib/canaries.js';
import { post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { until } from '../lib/until.js';

const secretOf = (key) => canary('producer-key', key);
const hash = (key) => createHash('sha256').update(secretOf(key)).digest('hex');
const as = (key) => ({ authorization: `Bearer ${secretOf(key)}` });
const message = { to: { room: 'lobby' }, event: 'price', data: 1 };
const batch = (count) => Array.from({ length: count }, () => message);
let dev;
let policy;

function say(desk) {
  fs.writeFileSync(policy, [
    'producers:',
    `- { name: desk, key_sha256: ${desk}, rooms: [lobby], rate: 10/s, burst: 20 }`,
    `- { name: slow, key_sha256: ${hash('slow')}, rooms: ["*"], rate: 1/h, burst: 2 }`,
    `- { name: free, key_sha256: ${hash('free')}, rooms: ["*"] }`,
  ].join('\n'));
}

before(async () => {
  policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  say(hash('old'));
  dev = await Service.start('dev', { CARILLON_POLICY__FILE: policy });
});
after(() => dev.kill());

async function send(body, key) {
  const answer = await fetch(`${dev.ingest}/v1/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...as(key) },
    body: JSON.stringify(body),
  });
  const standing = /^"messages";r=(\d+);t=(\d+)$/.exec(answer.headers.get('ratelimit'));
  return {
    status: answer.status,
    policy: answer.headers.get('ratelimit-policy'),
    left: standing && Number(standing[1]),
    back: standing && Number(standing[2]),
    retryAfter: answer.headers.get('retry-after'),
    body: await answer.json(),
  };
}

test('a key opens its own rooms and no others', async () => {
  assert.equal((await post(dev.ingest, message)).status, 401);
  assert.equal((await send(message, 'new')).status, 401);
  assert.equal((await send(message, 'old')).status, 202);
  const elsewhere = await send({ ...message, to: 'all' }, 'old');
  assert.equal(elsewhere.status, 403);
  assert.equal(elsewhere.body.room, 'all');
  assert.equal((await send({ ...message, to: 'all' }, 'free')).status, 202);
});

test('a key is rotated without a gap', async () => {
  say(`[${hash('old')}, ${hash('new')}]`);
  await until('the new key is known', async () => (await send(message, 'new')).status === 202);
  assert.equal((await send(message, 'old')).status, 202);
  say(hash('new'));
  await until('the old key is forgotten', async () => (await send(message, 'old')).status === 401);
  assert.equal((await send(message, 'new')).status, 202);
});

test('every answer says where a limited producer stands, and others are told nothing', async () => {
  const { policy: told, left } = await until('the whole burst is back', async () => {
    const answer = await send('no message', 'new');
    return answer.left === 20 && answer;
  });
  assert.equal(told, '"messages";q=10;w=1, "burst";q=20');
  assert.equal(left, 20);
  assert.equal((await send(message, 'free')).policy, null);
});

test('over the quota it is 429 with the seconds to wait, and after them it passes', async () => {
  const first = await send(batch(20), 'new');
  assert.equal(first.status, 202);
  assert.ok(first.left <= 1 && first.back <= 2, JSON.stringify(first));
  const refused = await send(batch(15), 'new');
  assert.equal(refused.status, 429);
  assert.match(refused.body.type, /quota$/);
  assert.equal(refused.body.outcome, 'refused');
  assert.match(refused.retryAfter, /^[12]$/);
  assert.equal(refused.body.retry_after, Number(refused.retryAfter));
  const told = Date.now();
  await until('it passes', async () => (await send(batch(15), 'new')).status === 202);
  assert.ok(Date.now() - told <= Number(refused.retryAfter) * 1_000 + 1_000, 'it did not pass when it was told to');
});

test('a batch that can never pass is told so, and costs nothing', async () => {
  const refused = await send(batch(3), 'slow');
  assert.equal(refused.status, 413);
  assert.equal(refused.retryAfter, null);
  assert.deepEqual([refused.body.limit, refused.body.allowed, refused.left], ['producers.burst', 2, 2]);
  assert.equal((await send(batch(2), 'slow')).status, 202);
  const waiting = await send(message, 'slow');
  assert.equal(waiting.status, 429);
  assert.ok(Number(waiting.retryAfter) > 3_500 && Number(waiting.retryAfter) <= 3_600, waiting.retryAfter);
});
