// Gateways come and go under load: what is uneven becomes even, and a scale-down takes the emptiest.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { until } from '../lib/until.js';
import { Crowd } from './lib/crowd.js';
import { metric } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const SESSIONS = 'carillon_gateway_sessions';
const CLIENTS = 100;
/** Who stays at each of the gateways that become the emptiest. */
const FEW = 3;
const release = new Release();
const { kubectl } = release;
let crowd;

before(async () => {
  release.deploy({
    gateway: { replicas: 1 },
    pushCluster: { spec: { policy: { anonymous: { sessions: true }, rooms: [{ match: 'crowd', join: 'anyone', history: { size: 20000, bytes: '64MiB' } }] }, gateways: { rebalance: { rate: '20/s', within: 15 } } } },
  });
  await release.settled();
  crowd = await Crowd.gather(release.gateway, CLIENTS);
  await crowd.listenTo(release.ingest, await release.key());
});
after(() => crowd?.disperse());

const sum = (counts) => counts.reduce((one, two) => one + two, 0);
const sessions = async () => Promise.all(kubectl.ready('gateway').map((pod) => metric(pod, SESSIONS)));
const cost = (pod) => Number(pod.metadata.annotations?.['controller.kubernetes.io/pod-deletion-cost']);
/** What so many sessions may cost: their order of magnitude in steps of a factor of two, or that of a tenth more or fewer. */
const worth = (count) => [count, count - Math.floor(count / 10), count + Math.floor(count / 10)].map((one) => Math.floor(Math.log2(one)) + 1);

test('1 to 4: sessions even out by themselves', async () => {
  kubectl.run('scale', 'deployment', 'carillon-gateway', '--replicas=4');
  await kubectl.rollout('gateway');
  await until('no gateway has much more than the mean', async () => {
    const counts = await sessions();
    return counts.length === 4 && sum(counts) === CLIENTS && Math.max(...counts) <= (CLIENTS / 4) * 1.15;
  }, 180_000);
});

test('4 to 2: the emptiest go', async () => {
  // From here on nothing is evened out.
  kubectl.run('patch', 'pushcluster', 'carillon', '--type=merge', '--patch', '{"spec":{"gateways":{"rebalance":null}}}');
  await until('the policy says so', () => {
    const { metadata, status } = kubectl.json('get', 'pushcluster', 'carillon');
    return status.conditions.some(({ type, status, observedGeneration }) => type === 'Programmed' && status === 'True' && observedGeneration === metadata.generation);
  }, 60_000);
  // Kubernetes itself would take the youngest pods first. So most clients of the two oldest go home: only what is
  // written on the pods can tell that those two are to go.
  const age = ({ status, metadata }) => `${status.conditions.find(({ type }) => type === 'Ready').lastTransitionTime} ${metadata.creationTimestamp}`;
  const byAge = kubectl.ready('gateway').sort((one, two) => age(one).localeCompare(age(two))).map(({ metadata }) => metadata.name);
  const [old, young] = [byAge.slice(0, 2), byAge.slice(2)];
  for (const name of old) crowd.leave(crowd.homes()[name].slice(FEW));

  const pods = await until('costs are what sessions say, and differ', async () => {
    const now = kubectl.ready('gateway');
    const counts = Object.fromEntries(await Promise.all(now.map(async (pod) => [pod.metadata.name, await metric(pod, SESSIONS)])));
    const asWanted = old.every((name) => counts[name] === FEW) && young.every((name) => counts[name] > 4 * FEW) && sum(Object.values(counts)) === crowd.clients.length;
    return asWanted && now.every((pod) => worth(counts[pod.metadata.name]).includes(cost(pod))) && now;
  }, 120_000);
  const costs = Object.fromEntries(pods.map((pod) => [pod.metadata.name, cost(pod)]));
  assert.ok(Math.max(...old.map((name) => costs[name])) < Math.min(...young.map((name) => costs[name])), JSON.stringify(costs));

  kubectl.run('scale', 'deployment', 'carillon-gateway', '--replicas=2');
  await until('two are left', () => kubectl.pods('gateway').length === 2, 180_000);
  assert.deepEqual(kubectl.pods('gateway').map(({ metadata }) => metadata.name).sort(), [...young].sort(), 'those stay that have more, though they are younger');
  await until('all sessions are on the two', async () => sum(await sessions()) === crowd.clients.length, 120_000);
});

test('nothing was lost, doubled or disordered', () => crowd.audit());
