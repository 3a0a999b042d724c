// From one image to the next under load, back again, and away.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { until } from '../lib/until.js';
import { Crowd } from './lib/crowd.js';
import { run } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const release = new Release();
const { kubectl } = release;
const values = {
  gateway: { replicas: 2 },
  pushCluster: { spec: { policy: { anonymous: { sessions: true }, rooms: [{ match: 'crowd', join: 'anyone', history: { size: 50000, bytes: '64MiB' } }] } } },
};
const [, next] = process.env.E2E_NEXT_IMAGE?.split(/:(?=[^/:]+$)/) ?? [];
let crowd;

before(async () => {
  release.deploy(values);
  await release.settled();
  crowd = await Crowd.gather(release.gateway, 60);
  await crowd.listenTo(release.ingest, await release.key());
});
after(() => {
  crowd?.disperse();
  release.remove();
});

const images = () => new Set(['gateway', 'dispatcher', 'ingest', 'operator'].flatMap((component) => kubectl.pods(component))
  .map((pod) => pod.spec.containers[0].image.split(':').at(-1)));

test('upgrade and rollback under load', async () => {
  const [first] = images();
  const { version } = JSON.parse(release.helm('history', release.name, '--output', 'json')).at(-1);
  const revision = JSON.parse(release.helm('history', release.name, '--output', 'json')).at(-1).revision ?? version;
  release.deploy({ ...values, image: { tag: next } });
  await release.settled();
  await until('all run the next image', () => [...images()].join() === next, 120_000);
  release.helm('rollback', release.name, String(revision), '--wait', '--timeout', '5m');
  await release.settled();
  await until('all run the first image again', () => [...images()].join() === first, 120_000);
});

test('nothing was lost, doubled or disordered', () => crowd.audit());

test('uninstall leaves what it says and nothing else', async () => {
  crowd.disperse();
  release.helm('uninstall', release.name, '--wait', '--timeout', '5m');
  const left = () => kubectl.json('get', 'all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,roles,rolebindings').items
    .map(({ kind, metadata }) => `${kind}/${metadata.name}`)
    .filter((name) => !['ConfigMap/kube-root-ca.crt', 'ServiceAccount/default'].includes(name));
  await until('pods are gone', () => !left().some((name) => name.startsWith('Pod/')), 120_000);
  // The secret of the gateways; the key of a PushProducer goes with its object, which stays with its definition.
  const kept = left();
  assert.ok(kept.every((name) => /^Secret\/carillon-(forwarding|.*key)|^Secret\/default-key/.test(name)), kept.join(', '));
  assert.match(run('kubectl', ['get', 'crd', 'pushrooms.carillon.dev', '--output', 'name']), /pushrooms/);
});
