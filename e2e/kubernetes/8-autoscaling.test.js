// The operator of a real release, with the rights that the chart gives it, makes gateways as many as their clients need.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { until } from '../lib/until.js';
import { Crowd } from './lib/crowd.js';
import { Release } from './lib/release.js';

const CLIENTS = 30;
const LIMITS = { min: 1, max: 3 };
const release = new Release();
const { kubectl } = release;
const policy = { anonymous: { sessions: true }, rooms: [{ match: 'crowd', join: 'anyone', history: { size: 20000, bytes: '64MiB' } }] };
let crowd;
/** Every number of gateways that was asked for, in order. */
const asked = [];
let watching = true;
let watch;

const replicas = async () => (await kubectl.read('get', 'deployment', 'carillon-gateway')).spec.replicas;

before(async () => {
  release.makeNamespace();
  release.deploy({ gateway: { replicas: 1 }, pushCluster: { spec: { policy } } });
  await release.settled();
  crowd = await Crowd.gather(release.gateway, CLIENTS);
  await crowd.listenTo(release.ingest, await release.key());
  assert.equal(await replicas(), 1);
  watch = (async () => {
    while (watching) {
      const now = await replicas();
      if (asked.at(-1) !== now) asked.push(now);
      await new Promise((resolve) => { setTimeout(resolve, 250); });
    }
  })();
});
after(async () => {
  watching = false;
  crowd?.disperse();
  await watch;
  release.remove();
});

test('as many gateways as clients need, and never more than may be', async () => {
  // Ten times as many as the limit would be right.
  const autoscaling = { gateways: { ...LIMITS, connections: 1, stabilization: { up: '0s', down: '1s' } } };
  release.deploy({ gateway: { replicas: 1 }, pushCluster: { spec: { policy, autoscaling } } });
  await until('as many as may be', async () => (await replicas()) === LIMITS.max, 120_000);
  await kubectl.rollout('gateway');
  const told = JSON.parse(kubectl.run('get', 'events.events.k8s.io', '--output', 'json')).items.filter(({ reason }) => reason === 'Scaled');
  assert.ok(told.some(({ note }) => /from \d to \d pods, because/.test(note)), JSON.stringify(told.map(({ note }) => note)));
  await until('the status counts them', () => kubectl.json('get', 'pushcluster', 'carillon').status.gateways.connections === CLIENTS, 60_000);
  const managers = kubectl.json('get', 'deployment', 'carillon-gateway', '--show-managed-fields').metadata.managedFields;
  const scaler = managers.find(({ subresource, fieldsV1 }) => subresource === 'scale' && fieldsV1['f:spec']?.['f:replicas']);
  assert.ok(scaler, `the number is the operator's: ${JSON.stringify(managers.map(({ manager, subresource }) => [manager, subresource]))}`);
});

test('fewer gateways when fewer are needed, down to what must be', async () => {
  // One client is right for one gateway.
  crowd.leave(crowd.clients.slice(1));
  await until('as few as must be', async () => (await replicas()) === LIMITS.min, 180_000);
  await until('the others are gone', () => kubectl.pods('gateway').length === LIMITS.min, 120_000);
});

test('taken back, the number is the chart\'s again', async () => {
  // As it is, first: a number that is said while the operator still decides would not last.
  for (const count of [1, 2]) {
    release.deploy({ gateway: { replicas: count }, pushCluster: { spec: { policy } } });
    await release.settled();
    assert.equal(kubectl.json('get', 'pushcluster', 'carillon').spec.autoscaling, undefined);
    assert.equal(await replicas(), count);
  }
  watching = false;
  await watch;
  assert.ok(asked.includes(LIMITS.max) && asked.every((count) => count >= LIMITS.min && count <= LIMITS.max), asked.join());
});

test('nothing was lost, doubled or disordered', () => crowd.audit());
