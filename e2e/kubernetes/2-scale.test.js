// Gateways come and go under load: what is uneven becomes even, and a scale-down takes the emptiest.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { until } from '../lib/until.js';
import { Crowd } from './lib/crowd.js';
import { metric } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const SESSIONS = 'carillon_gateway_sessions';
const release = new Release();
const { kubectl } = release;
let crowd;

before(async () => {
  release.deploy({
    gateway: { replicas: 1 },
    pushCluster: { spec: { policy: { anonymous: { sessions: true }, rooms: [{ match: 'crowd', join: 'anyone', history: { size: 20000, bytes: '64MiB' } }] }, gateways: { rebalance: { rate: '20/s', within: 15 } } } },
  });
  await release.settled();
  crowd = await Crowd.gather(release.gateway, 100);
  await crowd.listenTo(release.ingest, await release.key());
});
after(() => crowd?.disperse());

const sessions = async () => Promise.all(kubectl.ready('gateway').map((pod) => metric(pod, SESSIONS)));
const cost = (pod) => Number(pod.metadata.annotations?.['controller.kubernetes.io/pod-deletion-cost'] ?? 0);

test('1 to 4: sessions even out by themselves', async () => {
  kubectl.run('scale', 'deployment', 'carillon-gateway', '--replicas=4');
  await kubectl.rollout('gateway');
  await until('no gateway has much more than the mean', async () => {
    const counts = await sessions();
    const sum = counts.reduce((one, two) => one + two, 0);
    return counts.length === 4 && sum === 100 && Math.max(...counts) <= (sum / 4) * 1.15;
  }, 180_000);
});

test('4 to 2: the emptiest go', async () => {
  // Two gateways lose their sessions to the others: those are the ones to go.
  const before = kubectl.ready('gateway');
  await until('costs follow sessions', async () => {
    const pods = kubectl.ready('gateway');
    const counts = await Promise.all(pods.map((pod) => metric(pod, SESSIONS)));
    return pods.every((pod, place) => counts[place] === 0 || cost(pod) > 0);
  }, 120_000);
  const cheapest = kubectl.ready('gateway').sort((one, two) => cost(one) - cost(two));
  kubectl.run('scale', 'deployment', 'carillon-gateway', '--replicas=2');
  await kubectl.rollout('gateway');
  await until('two are left', () => kubectl.pods('gateway').length === 2, 180_000);
  const left = kubectl.pods('gateway').map(({ metadata }) => metadata.name);
  const least = Math.min(...before.filter(({ metadata }) => left.includes(metadata.name)).map((pod) => cost(cheapest.find((one) => one.metadata.name === pod.metadata.name))));
  const gone = cheapest.filter(({ metadata }) => !left.includes(metadata.name));
  assert.ok(gone.every((pod) => cost(pod) <= least), 'no gateway went that had more sessions than one that stayed');
  await until('all sessions are on the two', async () => (await sessions()).reduce((one, two) => one + two, 0) === 100, 120_000);
});

test('nothing was lost, doubled or disordered', () => crowd.audit());
