// From one image to the next under load, back again, and away.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { until } from '../lib/until.js';
import { Crowd } from './lib/crowd.js';
import { run } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const release = new Release();
const { kubectl } = release;
/** A namespace that is everywhere. */
const WATCHED = 'default';
const values = {
  gateway: { replicas: 2 },
  operator: { watch: [WATCHED] },
  pushCluster: { spec: { policy: { anonymous: { sessions: true }, rooms: [{ match: 'crowd', join: 'anyone', history: { size: 50000, bytes: '64MiB' } }] } } },
};
const [, next] = process.env.E2E_NEXT_IMAGE?.split(/:(?=[^/:]+$)/) ?? [];
let crowd;

/** The definitions go if releases of these suites made them and nobody has objects of them: then the first revision is that of a new cluster. */
function forgetDefinitions() {
  const definitions = JSON.parse(run('kubectl', ['get', 'customresourcedefinitions', '--selector', 'app.kubernetes.io/part-of=carillon', '--output', 'json'])).items;
  const ours = definitions.every(({ metadata }) => metadata.annotations?.['meta.helm.sh/release-namespace'] === release.namespace);
  if (!ours || definitions.length === 0) return;
  const names = definitions.map(({ metadata }) => metadata.name);
  const { items } = JSON.parse(run('kubectl', ['get', names.join(), '--all-namespaces', '--output', 'json']));
  if (items.length === 0) run('kubectl', ['delete', 'customresourcedefinitions', ...names]);
}

before(async () => {
  release.makeNamespace();
  forgetDefinitions();
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
  const key = await release.key();
  const { version } = JSON.parse(release.helm('history', release.name, '--output', 'json')).at(-1);
  const revision = JSON.parse(release.helm('history', release.name, '--output', 'json')).at(-1).revision ?? version;
  release.deploy({ ...values, image: { tag: next } });
  await release.settled();
  await until('all run the next image', () => [...images()].join() === next, 120_000);
  release.helm('rollback', release.name, String(revision), '--wait', '--timeout', '5m');
  assert.equal(await release.key(), key, 'producers go on with their key');
  await release.settled();
  await until('all run the first image again', () => [...images()].join() === first, 120_000);
});

test('nothing was lost, doubled or disordered', () => crowd.audit());

/** Everything there is of these kinds; what Kubernetes itself makes, counts or tells anyway is left out. */
function found(kinds, ...more) {
  const passing = /^(Event|PodMetrics|EndpointSlice|Endpoints)\/|^ConfigMap\/kube-root-ca.crt$|^ServiceAccount\/default$/;
  return kubectl.json('get', kinds.join(), ...more).items
    .map(({ kind, metadata }) => `${kind}/${metadata.name}`)
    .filter((name) => !passing.test(name));
}
const kinds = (namespaced) => run('kubectl', ['api-resources', '--verbs=list', `--namespaced=${namespaced}`, '--output=name']).trim().split('\n');

test('uninstall leaves what it says and nothing else', async () => {
  crowd.disperse();
  const notes = release.helm('get', 'notes', release.name);
  const inNamespace = () => found(kinds(true));
  // By the label that all objects of the chart have, and by its names. And what it makes in namespaces that it watches.
  const inCluster = () => [...new Set([
    ...found(kinds(false), '--selector', 'app.kubernetes.io/part-of=carillon'),
    ...found(kinds(false)).filter((name) => name.includes(`${release.namespace}-${release.name}`) || /^CustomResourceDefinition\/.*\.carillon\.dev$/.test(name)),
  ])].sort();
  const elsewhere = () => found(kinds(true), '--selector', 'app.kubernetes.io/part-of=carillon', '--namespace', WATCHED);
  assert.ok(inNamespace().length > 30, 'the look sees what is there');
  assert.ok(inCluster().includes('ClusterRole/carillon-e2e-carillon-operator'), inCluster().join());
  assert.deepEqual(elsewhere(), ['RoleBinding/carillon-e2e-carillon-operator']);
  release.helm('uninstall', release.name, '--wait', '--timeout', '5m');
  const stays = ['Lease/carillon-operator', 'PushCluster/carillon', 'PushProducer/carillon-default', 'Secret/carillon-default-key', 'Secret/carillon-forwarding'];
  let left;
  await until('no more is left in the namespace than is said', () => {
    left = inNamespace().sort();
    return left.every((name) => stays.includes(name));
  }, 120_000).catch((error) => { throw new Error(`${error.message}: ${left}`); });
  assert.deepEqual(left, stays);
  const definitions = ['pushclusters', 'pushproducers', 'pushrooms'].map((plural) => `CustomResourceDefinition/${plural}.carillon.dev`);
  assert.deepEqual(inCluster(), definitions);
  assert.deepEqual(elsewhere(), []);
  const said = notes.slice(notes.indexOf('When the release is removed these stay:'));
  const named = [...said.matchAll(/^ +- (\w+) ([\w.-]+)[:,]/gm)].map(([, kind, name]) => `${kind}/${name}`);
  assert.deepEqual(named.sort(), [...stays, ...definitions].sort(), 'NOTES name just those');
});
