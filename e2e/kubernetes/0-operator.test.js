// The operator on a real API server: real custom resources, a real Redis, and services that apply what it compiles.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { families } from '../lib/metrics.js';
import { Service } from '../lib/processes.js';
import { post } from '../lib/producer.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';
import { Namespace } from './lib/cluster.js';
import { define, known, undefine, withoutSchema } from './lib/definitions.js';

const children = [];
let ns;
let redis;
let gateway;
let dispatcher;
let ingest;
let operator;
let defined = false;

const start = async (kind, more = {}, options = {}) => {
  const service = await Service.start(kind, { CARILLON_REDIS__URL: redis.url, ...more }, options);
  children.push(service);
  return service;
};
const startOperator = (more = {}) => start('operator', { CARILLON_OPERATOR__NAMESPACE: ns.name, ...more }, { ready: false });
const leads = async (service) => (await service.metric('carillon_operator_leader')) === 1;
const connect = async (more = {}) => {
  const socket = io(gateway.url, { forceNew: true, reconnectionDelay: 50, transports: ['websocket'], ...more });
  children.push({ kill: () => socket.close() });
  await until('a client is connected', () => socket.connected);
  return socket;
};
const revision = () => redis.cli('HGET', 'carillon:policy', 'revision').trim();
const applied = (service) => {
  const members = redis.cli('HVALS', 'carillon:members').split('\n').filter(Boolean).map((line) => JSON.parse(line));
  return members.find((member) => member.incarnation.startsWith(`${service.name}@`))?.policy_revision;
};
const key = (name) => {
  const data = ns.get('secret', `${name}-key`)?.data?.key;
  return data && Buffer.from(data, 'base64').toString();
};
const send = (room, bearer) => post(ingest.ingest, { to: { room }, event: 'note', data: 1 }, { authorization: `Bearer ${bearer}` });
const cluster = (policy = {}, more = {}) => ns.apply('PushCluster', 'carillon', { policy: { anonymous: { sessions: true, producers: true }, ...policy }, ...more });

before(async () => {
  ns = new Namespace('operator-dev');
  children.push({ kill: () => ns.delete() });
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  [gateway, dispatcher, ingest] = await Promise.all(['gateway', 'dispatcher', 'ingest'].map((kind) => start(kind)));
});
after(async () => {
  for (const child of children.reverse()) await child.kill();
  if (defined) undefine();
});

test('without the kinds it is not ready, and says how to make them known', async (t) => {
  defined = !known();
  operator = await startOperator();
  await until('it leads', () => leads(operator));
  if (defined) {
    await until('it says so', async () => (await operator.readiness()).text.includes('carillon operator crds | kubectl apply'));
  } else {
    t.diagnostic('another installation on this cluster has made the kinds known: not tested');
  }
  define();
  await until('it is ready', async () => (await operator.readiness()).ok, 90_000);
});

test('wrong objects are refused with what to do', () => {
  const refused = (kind, spec, message, name = 'wrong') => {
    const { ok, err } = ns.try(kind, name, spec);
    assert.ok(!ok, `${kind} ${JSON.stringify(spec)} was let in`);
    assert.match(err, message);
  };
  refused('PushRoom', { match: 'lobby[' }, /match must be a glob over room names: .*close every \[ and \{/);
  refused('PushRoom', { match: 'a', history: { age: '13h' } }, /history.age must be a duration like 30s, 10m or 1h30m, from 1s to 12h/);
  refused('PushRoom', { match: 'a', history: { age: 'long' } }, /history.age must be a duration/);
  refused('PushRoom', { match: 'a', history: { bytes: '1 sack' } }, /history.bytes must be a size like 512KiB/);
  refused('PushRoom', { match: 'a', join: 'everybody' }, /supported values: "anyone", "authenticated", "nobody"/);
  refused('PushRoom', { match: 'session:*', history: { size: 1 } }, /keep no history: leave history out/);
  refused('PushProducer', { rooms: ['a', '{b'] }, /each of rooms must be a glob/);
  refused('PushProducer', { rooms: [] }, /should have at least 1 items/);
  refused('PushProducer', { rooms: ['a'], rate: 'lots' }, /rate must be a count per time, like 200\/s/);
  refused('PushProducer', { rooms: ['a'], burst: 5 }, /a burst is part of a rate: say rate too/);
  refused('PushProducer', { rooms: ['a'], rotation: { interval: '1h', overlap: '2h' } }, /interval must be longer than rotation.overlap/);
  refused('PushProducer', { rooms: ['a'], secretName: 'No' }, /secretName must be the name of a Secret/);
  refused('PushProducer', { rooms: ['a'] }, /at most 63 characters/, 'a'.repeat(64));
  refused('PushCluster', { autoscaling: { gateways: { min: 5, max: 2, connections: 10 } } }, /min must not be above max: raise max or lower min/);
  refused('PushCluster', { gateways: { replicas: 2 }, autoscaling: { gateways: { min: 1, max: 2, connections: 10 } } }, /both say how many gateways there are: leave one of them out/);
  refused('PushCluster', { gateways: { rebalance: { rate: 'fast' } } }, /gateways.rebalance.rate must be a count per time/);
  refused('PushCluster', { policy: { clientEvents: { join: { room: 'all' } } } }, /has a meaning of its own/);

  ns.apply('PushRoom', 'fixed', { match: 'fixed-*' });
  refused('PushRoom', { match: 'other-*' }, /match can't be changed.*delete this PushRoom and make another/, 'fixed');
  ns.apply('PushProducer', 'fixed', { rooms: ['a'], secretName: 'fixed-secret' });
  refused('PushProducer', { rooms: ['a'], secretName: 'another' }, /secretName can't be changed/, 'fixed');
  ns.run('delete', 'pushroom/fixed', 'pushproducer/fixed');
});

test('nothing is compiled without a PushCluster, and with one every service applies it', async () => {
  ns.apply('PushRoom', 'lobby', { match: 'lobby*', join: 'nobody', history: { size: 3 } });
  const waiting = await ns.condition('pushroom', 'lobby', 'Programmed', 'False', { reason: 'NoCluster' });
  assert.match(waiting.message, /there is no PushCluster `carillon` in the namespace .*make one, an empty spec will do/);
  assert.equal(revision(), '');

  cluster({}, { gateways: { drainRate: '50/s', rebalance: { rate: '10/s' } } });
  await ns.programmed('pushroom', 'lobby');
  assert.match(redis.cli('HGET', 'carillon:policy', 'document'), /gateways:\n  drain_rate: 50\/s\n  rebalance:\n    rate: 10\/s\n    within: 15\n/);
  const programmed = await ns.programmed('pushcluster', 'carillon');
  assert.match(programmed.message, /applied by \d of \d/);
  const { status } = ns.get('pushcluster', 'carillon');
  assert.equal(status.policy.revision, revision());
  for (const service of [gateway, dispatcher, ingest]) {
    assert.equal(applied(service), revision(), service.name);
    assert.ok(status.policy.appliedBy.includes(service.name), JSON.stringify(status.policy));
  }
  assert.equal((await ns.condition('pushroom', 'lobby', 'Accepted', 'True')).reason, 'Accepted');
  assert.deepEqual([status.gateways.alive, status.dispatchers.alive, status.policy.rooms], [1, 1, 1]);
  assert.match(ns.run('get', 'push'), /lobby\*/);
  assert.match(ns.run('get', 'pcl'), /GATEWAYS +CONNECTIONS +SKEW +LAG +REVISION +APPLIED +PROGRAMMED +AGE/);
});

test('a key is rotated on schedule, and again', async () => {
  ns.apply('PushProducer', 'scheduled', { rooms: ['lobby*'], rotation: { interval: '1m', overlap: '50s' } });
  const seen = [await until('the Secret has a key', () => key('scheduled'))];
  for (const time of ['first', 'second']) {
    seen.push(await until(`the ${time} rotation`, () => !seen.includes(key('scheduled')) && key('scheduled'), 120_000));
    for (const current of seen.slice(-2)) assert.equal((await send('lobby', current)).status, 202, 'the new key and the one before it');
  }
  await until('the first is over', async () => (await send('lobby', seen[0])).status === 401, 60_000);
  assert.ok(ns.events('scheduled').some(({ reason }) => reason === 'KeyRotated'));
  ns.run('delete', 'pushproducer/scheduled');
});

test('history and rights change while clients are connected', async () => {
  const client = await connect();
  const join = (room) => client.timeout(5000).emitWithAck('join', { room, rewind: 100 });
  const history = async (room) => (await client.timeout(5000).emitWithAck('history', { room, limit: 100 })).messages?.length;
  assert.equal((await join('lobby')).error?.code, 'forbidden');
  ns.apply('PushRoom', 'lobby', { match: 'lobby*', join: 'anyone', history: { size: 3 } });
  await ns.programmed('pushroom', 'lobby');
  assert.equal((await join('lobby')).ok, true);
  const fill = async (count) => {
    for (let number = 0; number < count; number += 1) {
      assert.equal((await post(ingest.ingest, { to: { room: 'lobby' }, event: 'n', data: number })).status, 202);
    }
  };
  await fill(6);
  await until('three are kept', async () => (await history('lobby')) === 3);
  ns.apply('PushRoom', 'lobby', { match: 'lobby*', join: 'anyone', history: { size: 5 } });
  await ns.programmed('pushroom', 'lobby');
  await fill(6);
  await until('five are kept', async () => (await history('lobby')) === 5);
  client.close();
});

test('of two rooms with one pattern the older counts, and the younger says so', async () => {
  const before = revision();
  ns.apply('PushRoom', 'a-younger', { match: 'lobby*', join: 'nobody', priority: 100 });
  const conflict = await ns.condition('pushroom', 'a-younger', 'Accepted', 'False', { reason: 'Conflict' });
  assert.match(conflict.message, /PushRoom .*\/lobby is older and has the same match `lobby\*`; delete one of the two/);
  await ns.condition('pushroom', 'a-younger', 'Programmed', 'False', { reason: 'NotAccepted' });
  assert.equal(revision(), before, 'nothing changed');
  await until('an Event tells it', () => ns.events('a-younger').some(({ reason, type }) => reason === 'NotAccepted' && type === 'Warning'));
  ns.run('delete', 'pushroom/lobby');
  await ns.programmed('pushroom', 'a-younger');
  assert.notEqual(revision(), before);
  ns.run('delete', 'pushroom/a-younger');
  ns.apply('PushRoom', 'lobby', { match: 'lobby*', join: 'anyone', history: { size: 5 } });
  await ns.programmed('pushroom', 'lobby');
});

test('a producer gets a key, a new one without a refused request, and none when it is suspended', async () => {
  cluster({ anonymous: { sessions: true, producers: false } });
  ns.apply('PushProducer', 'billing', { rooms: ['lobby*'], rotation: { overlap: '10m' } });
  await until('the Secret has a key', () => key('billing'));
  await ns.programmed('pushproducer', 'billing');
  const secret = ns.get('secret', 'billing-key');
  assert.equal(secret.metadata.labels['carillon.dev/producer'], 'billing');
  assert.equal(secret.metadata.ownerReferences[0].kind, 'PushProducer');
  const first = key('billing');
  assert.equal((await send('lobby', first)).status, 202, 'a key that is shown is let in');
  assert.equal((await send('vault', first)).status, 403, 'but not everywhere');
  assert.ok(!redis.cli('HGET', 'carillon:policy', 'document').includes(first), 'Redis has the hash only');

  const statuses = [];
  let rotating = true;
  const publishing = (async () => {
    while (rotating) statuses.push((await send('lobby', key('billing'))).status);
  })();
  ns.run('annotate', 'pushproducer', 'billing', 'carillon.dev/rotate=now', '--overwrite');
  const second = await until('another key is there', () => key('billing') !== first && key('billing'));
  const sent = statuses.length;
  await until('it is used', () => statuses.length > sent + 5);
  rotating = false;
  await publishing;
  assert.deepEqual(statuses.filter((status) => status !== 202), [], `of ${statuses.length}`);
  assert.equal((await send('lobby', first)).status, 202, 'the former key lasts for the overlap');
  assert.equal(ns.get('secret', 'billing-key').data.next, undefined);
  const { status } = ns.get('pushproducer', 'billing');
  assert.ok(status.formerUntil && status.rotatedAt && status.fingerprint, JSON.stringify(status));
  const told = () => ns.events('billing').map(({ reason }) => reason).sort().join();
  await until('two Events told it', () => told() === 'KeyCreated,KeyRotated');

  ns.apply('PushProducer', 'billing', { rooms: ['lobby*'], rotation: { overlap: '10m' }, suspend: true });
  await until('it is refused', async () => (await send('lobby', second)).status === 401, 10_000);
  assert.equal((await send('lobby', first)).status, 401, 'with every key');
  await ns.programmed('pushproducer', 'billing', { reason: 'Suspended' });
  ns.apply('PushProducer', 'billing', { rooms: ['lobby*'], rotation: { overlap: '10m' } });
  await until('it is let in again', async () => (await send('lobby', second)).status === 202);
});

test('a deleted Secret revokes its key, and a deleted producer its Secret', async () => {
  const revoked = key('billing');
  ns.run('delete', 'secret/billing-key');
  const fresh = await until('a new key is there', () => key('billing') !== revoked && key('billing'));
  assert.equal((await send('lobby', fresh)).status, 202);
  assert.equal((await send('lobby', revoked)).status, 401);
  ns.run('delete', 'pushproducer/billing');
  await until('the key is refused', async () => (await send('lobby', fresh)).status === 401, 10_000);
  await until('the Secret is gone', () => !ns.get('secret', 'billing-key'));
});

test('a Secret of somebody else is not touched', async () => {
  ns.run('create', 'secret', 'generic', 'theirs', '--from-literal=key=not-for-you');
  ns.apply('PushProducer', 'greedy', { rooms: ['lobby'], secretName: 'theirs' });
  const taken = await ns.condition('pushproducer', 'greedy', 'Programmed', 'False', { reason: 'SecretTaken' });
  assert.match(taken.message, /is there already and not of this PushProducer: delete it, or/);
  assert.equal(Buffer.from(ns.get('secret', 'theirs').data.key, 'base64').toString(), 'not-for-you');
  ns.run('delete', 'secret/theirs');
  await ns.programmed('pushproducer', 'greedy');
  ns.run('delete', 'pushproducer/greedy');
});

test('an object that can not be read stops only itself', async () => {
  await withoutSchema('pushrooms', async () => {
    ns.apply('PushRoom', 'unreadable', { match: 7 });
    const unreadable = await ns.condition('pushroom', 'unreadable', 'Accepted', 'False', { reason: 'Unreadable' });
    assert.match(unreadable.message, /the spec can't be read: .*nothing of it is in force/);
    ns.apply('PushRoom', 'good', { match: 'good-*', priority: 0, join: 'anyone', publish: 'nobody' });
    await ns.programmed('pushroom', 'good');
    // What could be read once goes on counting.
    const before = revision();
    ns.apply('PushRoom', 'good', { match: ['good-*'] });
    const broken = await ns.condition('pushroom', 'good', 'Accepted', 'False', { reason: 'Unreadable' });
    assert.match(broken.message, /what was last read of it stays in force/);
    assert.equal(revision(), before);
    await until('an Event tells it', () => ns.events('unreadable').some(({ reason }) => reason === 'NotAccepted'));
    assert.equal(await operator.metric('carillon_operator_objects', 'kind="PushRoom"'), 3);
    ns.run('delete', 'pushroom/unreadable', 'pushroom/good');
  });
});

test('while Redis is away the last policy stays in force, and what changed comes after', async () => {
  const before = revision();
  await redis.child.kill();
  const away = await ns.condition('pushcluster', 'carillon', 'Programmed', 'False', { reason: 'RedisUnavailable' });
  assert.match(away.message, /the last policy stays in force, and it is tried again/);
  ns.apply('PushRoom', 'meanwhile', { match: 'meanwhile' });
  await ns.condition('pushroom', 'meanwhile', 'Programmed', 'False', { reason: 'RedisUnavailable' });
  await ns.programmed('pushroom', 'lobby');
  await redis.run();
  await ns.programmed('pushroom', 'meanwhile', { within: 60_000 });
  await ns.programmed('pushcluster', 'carillon', { within: 60_000 });
  assert.notEqual(revision(), before);
  const told = () => ns.events('carillon').map(({ reason }) => reason);
  await until('Events told it', () => told().includes('RedisUnavailable') && told().includes('RedisAvailable'));
  redis.cli('DEL', 'carillon:policy');
  await until('a lost policy is stored again', () => revision() === ns.get('pushcluster', 'carillon').status.policy.revision);
});

test('another takes over when the leader goes, is killed, or is told so', async () => {
  const second = await startOperator();
  await second.ready();
  assert.ok(!(await leads(second)), 'one leads');
  await operator.stop();
  await until('the second leads at once', () => leads(second), 10_000);
  const third = await startOperator();
  await third.ready();
  await second.kill();
  await until('the third leads after the Lease ran out', () => leads(third), 60_000);
  ns.apply('PushRoom', 'after', { match: 'after' });
  await ns.programmed('pushroom', 'after');

  ns.run('patch', 'lease', 'carillon-operator', '--type=merge', '--patch', JSON.stringify({ spec: { holderIdentity: 'somebody' } }));
  const { code } = await third.ended;
  assert.equal(code, 1, third.output());
  assert.match(third.output(), /was taken by somebody/);
  operator = await startOperator();
  await until('the next leads', () => leads(operator), 60_000);
  await operator.ready();
});

test('the deletion cost follows connections, coarsely', async () => {
  // Never scheduled, so that no image is needed; the API knows them, and the gateway lives under the same name.
  ns.apply('Pod', gateway.name, {
    schedulingGates: [{ name: 'carillon.dev/never' }],
    containers: [{ name: 'gateway', image: 'localhost/never:1' }],
  }, { apiVersion: 'v1', labels: { 'app.kubernetes.io/name': 'carillon', 'app.kubernetes.io/component': 'gateway' } });
  const cost = () => ns.get('pod', gateway.name).metadata.annotations?.['controller.kubernetes.io/pod-deletion-cost'];
  await until('an empty one costs nothing', () => cost() === '0');
  const clients = [];
  for (let number = 0; number < 5; number += 1) clients.push(await connect());
  await until('five cost as much as four to seven', () => cost() === '3');
  await until('the status counts them', () => ns.get('pushcluster', 'carillon').status.gateways.connections === 5);
  const odd = ns.get('pushcluster', 'carillon').status.conditions.find(({ type }) => type === 'Programmed');
  assert.match(odd.message, new RegExp(`alive in Redis but not Ready in the API, or draining: ${gateway.name}`));
  clients.forEach((client) => client.close());
  await until('and nothing again', () => cost() === '0');
  ns.run('delete', 'pod', gateway.name, '--grace-period=0', '--force');
  await ns.programmed('pushcluster', 'carillon');
});

test('Deployments are scaled by their load, by hand, and never above the partitions', async () => {
  const deployment = (component) => ns.apply('Deployment', `carillon-${component}`, {
    selector: { matchLabels: { app: component } },
    template: {
      metadata: { labels: { app: component } },
      spec: { schedulingGates: [{ name: 'carillon.dev/never' }], containers: [{ name: component, image: 'localhost/never:1' }] },
    },
  }, { apiVersion: 'apps/v1', labels: { 'app.kubernetes.io/name': 'carillon', 'app.kubernetes.io/component': component } });
  const replicas = (component) => ns.get('deployment', `carillon-${component}`).spec.replicas;
  const quickly = { up: '0s', down: '1s' };

  cluster({}, { autoscaling: { gateways: { min: 1, max: 4, connections: 2, stabilization: quickly } } });
  await until('the status says what is missing', () => /not exactly one Deployment/.test(ns.get('pushcluster', 'carillon').status.gateways.scaling));
  deployment('gateway');
  deployment('dispatcher');
  const clients = [];
  for (let number = 0; number < 6; number += 1) clients.push(await connect());
  await until('three gateways for six connections', () => replicas('gateway') === 3);
  clients.forEach((client) => client.close());
  await until('one for none', () => replicas('gateway') === 1, 60_000);
  assert.ok(ns.events('carillon').some(({ reason, note }) => reason === 'Scaled' && /from \d to \d pods, because/.test(note)));

  cluster({}, { autoscaling: { dispatchers: { min: 1, max: 100, lag: 1, stabilization: quickly } } });
  await until('its bound is told', () => /there are 8 partitions.*never more than 8/.test(ns.get('pushcluster', 'carillon').status.dispatchers.scaling));
  await dispatcher.kill();
  for (let number = 0; number < 40; number += 1) {
    assert.equal((await post(ingest.ingest, { to: { room: `lobby-${number}` }, event: 'n', data: number })).status, 202);
  }
  await until('as many dispatchers as partitions', () => replicas('dispatcher') === 8, 60_000);
  await until('the lag is told', () => ns.get('pushcluster', 'carillon').status.lag === 40);
  dispatcher = await start('dispatcher');
  await until('fewer when all is done', () => replicas('dispatcher') < 8, 60_000);

  cluster();
  ns.run('scale', 'pushcluster/carillon', '--replicas=4');
  await until('kubectl scale reaches the gateways', () => replicas('gateway') === 4);
  assert.equal(ns.get('pushcluster', 'carillon').status.gateways.selector, 'app.kubernetes.io/name=carillon,app.kubernetes.io/component=gateway');
  ns.run('delete', 'deployment', 'carillon-gateway', 'carillon-dispatcher');
});

test('a second PushCluster says which one counts, and a deleted one takes no data along', async () => {
  ns.apply('PushCluster', 'spare', { policy: { anonymous: { sessions: false } } });
  const spare = await ns.condition('pushcluster', 'spare', 'Accepted', 'False', { reason: 'NotInCharge' });
  assert.match(spare.message, /answers for the PushCluster `carillon`/);
  await ns.programmed('pushcluster', 'carillon', { within: 60_000 });

  const client = await connect();
  assert.equal((await client.timeout(5000).emitWithAck('join', { room: 'lobby' })).ok, true);
  const history = async () => (await client.timeout(5000).emitWithAck('history', { room: 'lobby', limit: 100 })).messages.length;
  const [before, kept, keys] = [revision(), await history(), Number(redis.cli('DBSIZE'))];
  assert.ok(kept > 0);
  ns.run('delete', 'pushcluster', 'carillon', 'spare');
  ns.apply('PushRoom', 'orphan', { match: 'orphan' });
  await ns.condition('pushroom', 'orphan', 'Programmed', 'False', { reason: 'NoCluster' });
  assert.equal(revision(), before, 'the last policy stays');
  assert.equal(await history(), kept);
  assert.ok(Number(redis.cli('DBSIZE')) >= keys, 'nothing was deleted');
  cluster();
  await ns.programmed('pushroom', 'orphan');
});

test('it counts what lies in the namespaces that it is told to watch, and in all', async () => {
  const elsewhere = new Namespace('operator-elsewhere');
  children.push({ kill: () => elsewhere.delete() });
  elsewhere.apply('PushRoom', 'far', { match: 'far-*', join: 'anyone' });
  elsewhere.apply('PushProducer', 'far', { rooms: ['far-*'] });
  await ns.programmed('pushroom', 'orphan');
  assert.equal(elsewhere.get('pushroom', 'far').status, undefined, 'nobody looks there');
  const known = () => redis.cli('HGET', 'carillon:policy', 'document').includes('far-*');
  for (const watch of [[elsewhere.name, ns.name], ['*']]) {
    await operator.stop();
    operator = await startOperator({ CARILLON_OPERATOR__WATCH: watch.join() });
    await elsewhere.programmed('pushroom', 'far', { within: 90_000 });
    await elsewhere.programmed('pushproducer', 'far', { within: 90_000 });
    await ns.programmed('pushroom', 'orphan');
    await ns.programmed('pushcluster', 'carillon', { within: 60_000 });
    assert.ok(known(), watch.join());
    assert.match(Buffer.from(elsewhere.get('secret', 'far-key').data.key, 'base64').toString(), /^.{20,}$/, 'the key lies beside its producer');
    await operator.stop();
    operator = await startOperator();
    await until('without it the room is no more', () => !known(), 60_000);
  }
});

test('its metrics are those that the dashboards are proved with', async () => {
  const operators = (text) => [...families(text)].filter(([name]) => name.startsWith('carillon_operator_'))
    .map(([name, { type, help, labels }]) => ({ name, type, help, labels: [...labels].sort() }));
  const text = await (await fetch(`${operator.admin}/metrics`)).text();
  const fixture = fs.readFileSync(new URL('../lib/operator-metrics.txt', import.meta.url), 'utf8');
  assert.deepEqual(operators(fixture), operators(text));
});
