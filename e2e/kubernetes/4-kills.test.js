// Pods that are deleted by force, processes that are killed without a word, an API server that is away.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { until } from '../lib/until.js';
import { Crowd } from './lib/crowd.js';
import { run } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const release = new Release();
const { kubectl } = release;
/** Programs that reach behind Kubernetes' back, where the cluster has them. */
const tools = process.env.E2E_CLUSTER_TOOLS;
const CLAIM = 'redis-data';
let crowd;
let folder;

/** A claim of a volume that outlives the pod; where the cluster has nothing that makes volumes, of a folder of its node. */
function claim() {
  release.haveNamespace();
  const resources = { requests: { storage: '1Gi' } };
  const spec = { accessModes: ['ReadWriteOnce'], resources };
  if (tools) {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-redis-'));
    const [node] = kubectl.json('get', 'nodes').items;
    const name = path.basename(folder).toLowerCase();
    spec.storageClassName = '';
    spec.volumeName = name;
    const here = [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node.metadata.labels['kubernetes.io/hostname']] }] }];
    kubectl.apply({
      apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name },
      spec: {
        capacity: resources.requests, accessModes: spec.accessModes, storageClassName: '', persistentVolumeReclaimPolicy: 'Retain',
        local: { path: folder }, nodeAffinity: { required: { nodeSelectorTerms: here } },
      },
    });
  }
  kubectl.apply({ apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { name: CLAIM }, spec });
}

before(async () => {
  claim();
  release.deploy({
    gateway: { replicas: 3 },
    redis: { embedded: { persistence: { enabled: true, existingClaim: CLAIM } } },
    pushCluster: { spec: { policy: { anonymous: { sessions: true }, rooms: [{ match: 'crowd', join: 'anyone', history: { size: 50000, bytes: '64MiB' } }] } } },
  });
  await release.settled();
  crowd = await Crowd.gather(release.gateway, 60);
  await crowd.listenTo(release.ingest, await release.key());
});
after(() => {
  crowd?.disperse();
  if (!folder) return;
  // The volume goes when the claim is gone, and the claim when no pod has it any more.
  kubectl.run('delete', 'persistentvolume', path.basename(folder).toLowerCase(), '--wait=false');
  kubectl.run('delete', 'persistentvolumeclaim', CLAIM, '--wait=false');
});

const flowing = (what) => {
  const { length } = crowd.producer.accepted;
  return until(`messages flow again: ${what}`, () => {
    const { accepted } = crowd.producer;
    return accepted.length > length + 3 && crowd.clients[0].of('crowd').some(({ offset }) => offset === accepted[length + 2].offset);
  }, 120_000);
};

const COMPONENTS = ['gateway', 'dispatcher', 'ingest', 'operator'];
const restartsOf = (pod) => pod.status.containerStatuses[0].restartCount;

for (const component of COMPONENTS) {
  // Kubernetes forgets the pod at once; its processes still get a SIGTERM, and two seconds later a SIGKILL.
  test(`one ${component} is deleted by force, twice`, async () => {
    for (let time = 0; time < 2; time += 1) {
      const [pod] = kubectl.ready(component);
      kubectl.run('delete', 'pod', pod.metadata.name, '--grace-period=0', '--force', '--wait=false');
      await flowing(`${component} ${time}`);
      await kubectl.rollout(component);
    }
  });
}

/** Kills a pod's process without a word; it is started again in the same pod. */
async function kill(component) {
  const [killed] = kubectl.ready(component);
  run(`${tools}/signal-pod`, [release.namespace, killed.metadata.name, 'KILL']);
  const state = await until('it was started again', () => {
    const pod = kubectl.pods(component).find(({ metadata }) => metadata.uid === killed.metadata.uid);
    return restartsOf(pod) > restartsOf(killed) && pod.status.containerStatuses[0].ready && pod.status.containerStatuses[0];
  }, 120_000);
  assert.equal(state.lastState.terminated.exitCode, 128 + 9, `${component}: ${JSON.stringify(state.lastState)}`);
  await flowing(component);
}

test('one process of each kind gets a SIGKILL', async (context) => {
  if (!tools) return context.skip('this cluster has no way to kill a process in a pod');
  for (const component of COMPONENTS) await kill(component);
});

test('Redis is killed and comes back with what it had', async (context) => {
  if (!tools) return context.skip('this cluster has no way to kill a process in a pod');
  await kill('redis');
});

test('the pod of Redis is deleted by force and comes back with its volume', async () => {
  const [redis] = kubectl.pods('redis');
  kubectl.run('delete', 'pod', redis.metadata.name, '--grace-period=0', '--force', '--wait=false');
  await until('there is another', () => kubectl.ready('redis').some(({ metadata }) => metadata.uid !== redis.metadata.uid), 120_000);
  await flowing('Redis with its volume');
});

test('the API server is away: delivery goes on, and neither services nor Redis restart', async (context) => {
  const pid = process.env.E2E_API_SERVER_PID;
  if (!tools || !pid) return context.skip('this cluster has no API server that can be stopped');
  /** How often the pods of components were started again, by their names. */
  const restarts = (...components) => Object.fromEntries(components.flatMap((component) => kubectl.pods(component)).map((pod) => [pod.metadata.name, restartsOf(pod)]));
  const others = ['gateway', 'dispatcher', 'ingest', 'redis'];
  const [before, operators] = [restarts(...others), restarts('operator')];
  const stopped = performance.now();
  run('kill', ['-STOP', pid]);
  try {
    // A minute, by what goes through in it.
    while (performance.now() - stopped < 60_000) await flowing('without the API');
  } finally {
    run('kill', ['-CONT', pid]);
  }
  await until('the API answers', () => spawnSync('kubectl', ['get', 'namespaces']).status === 0, 60_000);
  await release.settled();
  assert.deepEqual(restarts(...others), before);
  // The two operators could not renew or read the Lease for longer than it lasts, so whoever reaches the API first leads.
  // If that is not the one that led before, that one ends and starts afresh, as it must; and nothing else restarts them.
  const again = kubectl.pods('operator').filter((pod) => restartsOf(pod) !== operators[pod.metadata.name]);
  context.diagnostic(`${again.length} of ${Object.keys(operators).length} operators started again, having lost the Lease`);
  assert.ok(again.length <= 1, again.map(({ metadata }) => metadata.name).join());
  for (const { metadata } of again) assert.match(kubectl.run('logs', metadata.name, '--previous', '--tail=20'), /the Lease \S+ was taken by/);
});

test('nothing was lost, doubled or disordered', () => crowd.audit());
