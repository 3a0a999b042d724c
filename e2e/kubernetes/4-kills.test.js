// Pods that are killed without a word, a Redis that is killed, an API server that is away.
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

for (const component of ['gateway', 'dispatcher', 'ingest', 'operator']) {
  test(`one ${component} is deleted by force, twice`, async () => {
    for (let time = 0; time < 2; time += 1) {
      const [pod] = kubectl.ready(component);
      kubectl.run('delete', 'pod', pod.metadata.name, '--grace-period=0', '--force', '--wait=false');
      await flowing(`${component} ${time}`);
      await kubectl.rollout(component);
    }
  });
}

test('Redis is killed and comes back with what it had', async (context) => {
  if (!tools) return context.skip('this cluster has no way to kill a process in a pod');
  const [redis] = kubectl.pods('redis');
  run(`${tools}/signal-pod`, [release.namespace, redis.metadata.name, 'KILL']);
  await until('it was restarted', () => {
    const [pod] = kubectl.pods('redis');
    return pod.status.containerStatuses[0].restartCount > redis.status.containerStatuses[0].restartCount && pod.status.containerStatuses[0].ready;
  }, 120_000);
  await flowing('Redis');
});

test('the pod of Redis is deleted by force and comes back with its volume', async () => {
  const [redis] = kubectl.pods('redis');
  kubectl.run('delete', 'pod', redis.metadata.name, '--grace-period=0', '--force', '--wait=false');
  await until('there is another', () => kubectl.ready('redis').some(({ metadata }) => metadata.uid !== redis.metadata.uid), 120_000);
  await flowing('Redis with its volume');
});

test('the API server is away: delivery goes on and nothing restarts', async (context) => {
  const pid = process.env.E2E_API_SERVER_PID;
  if (!tools || !pid) return context.skip('this cluster has no API server that can be stopped');
  const restarts = () => ['gateway', 'dispatcher', 'ingest'].flatMap((component) => kubectl.pods(component))
    .map((pod) => `${pod.metadata.name} ${pod.status.containerStatuses[0].restartCount}`).sort();
  const before = restarts();
  const stopped = performance.now();
  run('kill', ['-STOP', pid]);
  try {
    // A minute, by what goes through in it.
    while (performance.now() - stopped < 60_000) await flowing('without the API');
  } finally {
    run('kill', ['-CONT', pid]);
  }
  await until('the API answers', () => spawnSync('kubectl', ['get', 'namespaces']).status === 0, 60_000);
  assert.deepEqual(restarts(), before);
  await release.settled();
});

test('nothing was lost, doubled or disordered', () => crowd.audit());
