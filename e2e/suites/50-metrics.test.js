// Everything that is shown can be seen, and what is wrong is told: a real Prometheus scrapes real services under load.
//
// `carillon operator` needs a Kubernetes, which many machines have not: here, and here only, a fixture serves its metrics
// (e2e/lib/operator-metrics.txt). e2e/kubernetes/7-seeing.test.js asks the same of real operators, with the labels that a
// scrape in Kubernetes adds, and 0-operator.test.js holds the fixture against what they show.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { files } from '../../scripts/dashboards/build.mjs';
import { expressionsOf, filled } from '../lib/dashboards.js';
import { Listener } from '../lib/listener.js';
import { families, reference } from '../lib/metrics.js';
import { post } from '../lib/producer.js';
import { Prometheus } from '../lib/prometheus.js';
import { Service } from '../lib/processes.js';
import { QUIET, read } from '../lib/promql.js';
import { Proxy } from '../lib/proxy.js';
import { Redis } from '../lib/redis.js';
import { Traffic } from '../lib/traffic.js';
import { until } from '../lib/until.js';

const root = path.resolve(import.meta.dirname, '../..');
const children = [];
const known = new Map();
let settings;
let redis;
let way;
let ingest;
let gateways;
let dispatchers;
let prometheus;
let operator;
let traffic;

const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};
/** What Prometheus scrapes. */
const targets = () => [
  ...[ingest, ...dispatchers, ...gateways].map(({ admin, name }) => ({ address: admin.replace('http://', ''), pod: name })),
  { address: `127.0.0.1:${operator.address().port}`, pod: 'operator-fixture' },
];

/** Waits until an alert fires and gives the labels of all that do. */
const fires = (name, milliseconds = 60_000) => until(`${name} fires`, async () => {
  const labels = await prometheus.firing(name);
  return labels.length > 0 && labels;
}, milliseconds);

/** Takes in what a service shows now; families without series show only once they have some. */
const see = async (...services) => {
  for (const service of services) families(await (await fetch(`${service.admin}/metrics`)).text(), known);
};

before(async () => {
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  redis.cli('CONFIG', 'SET', 'maxmemory', '256mb');
  redis.cli('SET', 'carillon-not-a-list', 'text');
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, `
anonymous: { sessions: true, producers: true }
rooms:
- { match: "*", join: anyone, publish: anyone, presence: true, history: { size: 200 } }
intake:
  lists:
  - { list: orders, room: news, event: order }
  - { list: carillon-not-a-list, room: news, event: order }
`);
  settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: policy, CARILLON_GATEWAY__FORWARDING__SECRET: 'gateways of one installation know each other' };
  way = await Proxy.start(redis.port);
  children.push({ kill: () => way.close() });
  [ingest, ...dispatchers] = await Promise.all(['ingest', 'dispatcher', 'dispatcher'].map((kind) => start(kind)));
  gateways = [await start('gateway'), await start('gateway', { CARILLON_REDIS__URL: way.url.replace('http', 'redis') })];
  const exposition = fs.readFileSync(path.join(root, 'e2e/lib/operator-metrics.txt'), 'utf8');
  let scrapes = 0;
  operator = http.createServer((_, response) => {
    // What is counted grows.
    scrapes += 1;
    response.end(exposition.replace(/^(\w+(?:_total|_bucket|_sum|_count)(?:\{.*\})?) (\S+)$/gm, (_all, series, value) => `${series} ${Number(value) * scrapes}`)
      + 'carillon_build_info{version="0",revision="0",rustc="0"} 1\n');
  });
  await new Promise((resolve) => { operator.listen(0, '127.0.0.1', resolve); });
  prometheus = await Prometheus.start(targets());
  children.push({ kill: () => prometheus.remove() });

  traffic = await Traffic.begin({ gateways: gateways.map(({ url }) => url), ingest: ingest.ingest, size: 40 });
  traffic.repeat(async () => { redis.cli('RPUSH', 'orders', '{"order":1}'); }, 500);
});
after(async () => {
  traffic?.stop();
  operator?.close();
  for (const child of children.reverse()) await child.kill();
});

test('every alert has a severity, a runbook that says what to do, and tests that it fires and that it does not', async () => {
  const alerts = (await prometheus.rules()).filter(({ type }) => type === 'alerting');
  const names = alerts.map(({ name }) => name).sort();
  const runbooks = fs.readdirSync(path.join(root, 'docs/runbooks')).filter((name) => name !== 'README.md').map((name) => name.replace('.md', '')).sort();
  assert.deepEqual(runbooks, names, 'each alert has a runbook, and each runbook an alert');
  const index = fs.readFileSync(path.join(root, 'docs/runbooks/README.md'), 'utf8');
  const tests = fs.readdirSync(path.join(root, 'helm/carillon/rules/tests')).map((name) => fs.readFileSync(path.join(root, 'helm/carillon/rules/tests', name), 'utf8')).join('\n');
  for (const { name, labels, annotations } of alerts) {
    assert.match(labels.severity, /^(page|ticket)$/, name);
    assert.ok(annotations.summary && annotations.description, `${name} says what is wrong`);
    assert.equal(annotations.runbook_url, `docs/runbooks/${name}.md`);
    const runbook = fs.readFileSync(path.join(root, annotations.runbook_url), 'utf8');
    for (const part of ['## What it means', '## What users notice', '## How to look', '## What to do', '## When it is over']) {
      assert.ok(runbook.includes(part), `${name}: the runbook has no part "${part}"`);
    }
    assert.ok(index.includes(`(${name}.md)`), `docs/runbooks/README.md does not list ${name}`);
    const checks = tests.split('alertname: ').slice(1).filter((check) => check.startsWith(`${name}\n`));
    const fires = (check) => /exp_alerts:\s*\n/.test(check.split('alertname: ')[0]) && !/exp_alerts: \[\]/.test(check);
    assert.ok(checks.some(fires), `${name} is never seen to fire in promtool's tests`);
    assert.ok(checks.some((check) => !fires(check)), `${name} is never seen not to fire in promtool's tests`);
  }
});

/** All that panels and rules ask for, as it is asked where everything is chosen, and where it stands. */
async function asked() {
  const values = { namespace: '.*', job: '.*', pod: '.*', __rate_interval: '15s' };
  const panels = [...expressionsOf(files)].map(([expression, where]) => [filled(expression, values), where]);
  const rules = await prometheus.rules();
  return { panels, rules: rules.map(({ query, name }) => [query, name]), recorded: rules.filter(({ type }) => type === 'recording').map(({ name }) => [name, 'recorded']) };
}

test('every expression of every panel and every recorded rule has data', async () => {
  const { panels, recorded } = await asked();
  const expressions = new Map([...panels, ...recorded]);
  assert.ok(expressions.size > 150, `${expressions.size} expressions`);
  await prometheus.haveData(expressions);
  for (const rule of await prometheus.rules()) assert.equal(rule.health, 'ok', `${rule.name}: ${rule.lastError}`);
  await see(ingest, ...dispatchers, ...gateways);
});

test('every selector of every alert, rule and panel finds a series before anything is wrong', async () => {
  const { panels, rules } = await asked();
  const { usual } = read([...panels, ...rules]);
  assert.ok(usual.size > 150, `${usual.size} selectors`);
  await prometheus.haveSeries(usual);
  for (const [name, reason] of QUIET) assert.deepEqual(await prometheus.query(`count(${name})`), [], `${name} is there, although ${reason}`);
});

test('a message that nobody can read, a channel that is not read, clients that come again and again', async () => {
  for (const name of ['CarillonDeadLetters', 'CarillonProbeFailing', 'CarillonReconnectStorm', 'CarillonPartitionsUnowned', 'CarillonPartitionWithoutProgress', 'CarillonRedisAway']) {
    assert.deepEqual(await prometheus.firing(name), [], `${name} before the fault`);
  }
  const [queue] = redis.cli('KEYS', 'carillon:q:*').split('\n');
  const spoiling = setInterval(() => redis.cli('XADD', queue, '*', 'e', 'not what a message looks like'), 3_000);
  // Answers to what the second gateway reads of its channel are lost.
  way.watch = (name, bytes, pair) => {
    if (name === 'up' && bytes.includes('XREAD')) pair.hole = true;
    return !pair.hole;
  };
  way.cut();
  let storm = true;
  const stormy = Array.from({ length: 12 }, async () => {
    while (storm && !traffic.stopped) {
      const guest = new Listener(gateways[0].url, { options: { transports: ['websocket'], reconnection: false } });
      await until('it is in', () => guest.socket.connected, 5_000).catch(() => {});
      guest.close();
    }
  });
  await Promise.all([
    fires('CarillonDeadLetters').then(([{ reason }]) => assert.equal(reason, 'unreadable')).finally(() => clearInterval(spoiling)),
    fires('CarillonReconnectStorm').then(() => { storm = false; }),
    fires('CarillonProbeFailing', 90_000).then((labels) => assert.deepEqual(labels.map(({ pod }) => pod), [gateways[1].name])),
  ]).finally(() => { storm = false; });
  await Promise.all(stormy);
  way.watch = undefined;
  way.cut();
});

test('no dispatcher, then dispatchers that get stuck, then no Redis', async () => {
  for (const dispatcher of dispatchers) await dispatcher.kill();
  await fires('CarillonPartitionsUnowned');
  // The offsets of a new installation run ahead of the clock, so that no entry has an age yet: it is their number that
  // tells. Nobody is in their room.
  const many = Array.from({ length: 1_000 }, () => ({ to: { room: 'nobody-is-here' }, event: 'tick', data: 0 }));
  let waiting = 0;
  await until('many wait', async () => {
    waiting += (await post(ingest.ingest, many)).status === 202 ? many.length : 0;
    return waiting > 51_000;
  }, 60_000);
  await fires('CarillonQueueLag');

  // Somebody else's key lies where a gateway's channel was.
  const broken = await start('gateway');
  const member = new Listener(broken.url, { rooms: ['news'], options: { transports: ['websocket'] } });
  traffic.clients.push(member);
  await until('it has its rooms', async () => (await broken.metric('carillon_gateway_rooms')) > 1);
  const alive = redis.cli('KEYS', `carillon:alive:{${broken.name}@*`).trim();
  assert.ok(alive && !alive.includes('\n'), `one life: ${alive}`);
  const channel = alive.replace(':alive:', ':gw:');
  redis.cli('EVAL', "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], 'text')", '1', channel);
  dispatchers = await Promise.all(['dispatcher', 'dispatcher'].map((kind) => start(kind)));
  prometheus.scrape(targets());
  await fires('CarillonPartitionWithoutProgress', 90_000);
  await until('the partition is named', async () => {
    await see(...dispatchers);
    return known.has('carillon_dispatcher_partition_without_progress');
  });
  await broken.kill();
  redis.cli('DEL', channel);
  // What waited all the time is delivered, and it is late.
  await fires('CarillonDeliveryBudgetBurnsFast', 90_000);

  await redis.child.kill();
  await fires('CarillonRedisAway', 60_000);
});

test('the reference names every metric there is, and no other', async () => {
  await see(ingest, ...gateways);
  families(fs.readFileSync(path.join(root, 'e2e/lib/operator-metrics.txt'), 'utf8'), known);
  const page = path.join(root, 'docs/metrics.md');
  const text = reference(known);
  if (process.env.UPDATE_METRICS) fs.writeFileSync(page, text);
  assert.equal(fs.readFileSync(page, 'utf8'), text, 'docs/metrics.md is not what the services show; UPDATE_METRICS=1 e2e/run 50-metrics writes it anew');
});

test('what had nothing to tell as long as all was well has told of the faults', async () => {
  const { panels, rules } = await asked();
  const { quiet } = read([...panels, ...rules]);
  for (const name of QUIET.keys()) assert.ok([...quiet.keys()].some((selector) => selector.startsWith(name)), `nobody asks for ${name}`);
  await prometheus.haveSeries(quiet, '1h');
});
