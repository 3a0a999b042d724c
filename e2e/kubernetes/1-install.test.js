// `helm install` into a namespace that enforces the restricted Pod Security Standard, the commands of NOTES as a person
// would paste them, and a browser.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test, { after, before } from 'node:test';
import { chromium } from 'playwright-core';
import { io } from 'socket.io-client';
import { until } from '../lib/until.js';
import { admin, run } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const release = new Release();
const { kubectl } = release;
let notes;
let socket;
let browser;

before(async () => {
  release.makeNamespace();
  notes = release.deploy();
  await release.settled();
});
after(async () => {
  socket?.close();
  await browser?.close();
});

test('three gateways are ready, and nothing in the namespace breaks the restricted standard', () => {
  assert.equal(kubectl.ready('gateway').length, 3);
  const warned = run('kubectl', ['label', '--dry-run=server', '--overwrite', 'namespace', release.namespace, 'pod-security.kubernetes.io/enforce=restricted'], {});
  assert.doesNotMatch(warned, /violate/);
});

test('the commands of NOTES reach a client with default options and a browser', async () => {
  const { gateway } = release;
  const heard = [];
  socket = io(gateway);
  socket.on('hello', (data) => heard.push(data));
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const page = await browser.newPage();
  await page.goto(gateway);
  await until('the page is connected', async () => /connected/i.test(await page.textContent('#state')));
  await until('the client is connected', () => socket.connected);

  const [, second] = notes.split('2. Send a message');
  const commands = second.slice(second.indexOf('\n'), second.indexOf('3. Connect'));
  const pasted = spawnSync('bash', ['-c', commands], { encoding: 'utf8' });
  assert.match(pasted.stdout, /"offset"/, pasted.stderr);
  await until('the client hears it', () => heard.includes('from carillon'));
  await until('the page shows it', async () => (await page.textContent('#log')).includes('from carillon'));
  await page.screenshot({ path: new URL('../.artifacts/kubernetes-page.png', import.meta.url).pathname });
});

test('helm test publishes and receives', () => {
  assert.match(release.helm('test', release.name), /Phase:\s+Succeeded/);
});

test('network policies are taken by the API server', () => {
  // Whether they are enforced is up to the cluster's network; the one of this test may enforce none.
  const { items } = kubectl.json('get', 'networkpolicies');
  for (const component of ['gateway', 'dispatcher', 'ingest', 'operator']) {
    assert.ok(items.some(({ metadata }) => metadata.name.includes(component)), component);
  }
});

test('the operator may do what it has to and nothing else', () => {
  const account = kubectl.pods('operator')[0].spec.serviceAccountName;
  for (const [verb, what] of [['list', 'pushrooms.carillon.dev'], ['patch', 'pods'], ['create', 'secrets'], ['update', 'leases.coordination.k8s.io']]) {
    assert.ok(kubectl.may(account, verb, what), `${verb} ${what}`);
  }
  for (const [verb, what, ...more] of [
    ['delete', 'pods'], ['create', 'pods'], ['create', 'pods', '--subresource=exec'], ['get', 'pods', '--subresource=log'], ['get', 'configmaps'], ['delete', 'deployments.apps'],
    ['patch', 'deployments.apps'], ['delete', 'pushrooms.carillon.dev'], ['create', 'roles.rbac.authorization.k8s.io'], ['get', 'nodes'],
    ['get', 'secrets', '--namespace', 'kube-system'], ['list', 'pods', '--all-namespaces'], ['impersonate', 'users'],
  ]) {
    assert.ok(!kubectl.may(account, verb, what, ...more), `${verb} ${what} ${more.join(' ')}`);
  }
  for (const component of ['gateway', 'dispatcher', 'ingest']) {
    const [pod] = kubectl.pods(component);
    assert.equal(pod.spec.automountServiceAccountToken, false, component);
  }
});

test('without dispatchers the gateways say so in readyz', async () => {
  kubectl.run('scale', 'deployment', 'carillon-dispatcher', '--replicas=0');
  await until('the dispatchers are gone', () => kubectl.pods('dispatcher').length === 0, 120_000);
  const [pod] = kubectl.pods('ingest');
  await until('readyz explains it', async () => {
    const answers = [await admin(pod, '/readyz'), ...await Promise.all(kubectl.pods('gateway').map((gateway) => admin(gateway, '/readyz')))];
    return answers.some(({ text }) => /dispatcher/.test(text));
  }, 60_000);
  kubectl.run('scale', 'deployment', 'carillon-dispatcher', '--replicas=2');
  await kubectl.rollout('dispatcher');
});
