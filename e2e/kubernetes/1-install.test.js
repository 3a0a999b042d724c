// `helm install` into a namespace that enforces the restricted Pod Security Standard, the commands of NOTES as a person
// would paste them, and a browser.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { launch } from '../lib/browser.js';
import { Tab } from '../lib/tab.js';
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
  browser = await launch();
  const { page } = await Tab.open(browser, gateway);
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

test('network policies are taken by the API server, and keep strangers from Redis where the network enforces them', async (context) => {
  const { items } = kubectl.json('get', 'networkpolicies');
  for (const component of ['gateway', 'dispatcher', 'ingest', 'operator']) {
    assert.ok(items.some(({ metadata }) => metadata.name.includes(component)), component);
  }
  const security = { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] }, runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } };
  const container = {
    name: 'stranger', image: process.env.E2E_REDIS_IMAGE, securityContext: security, command: ['redis-cli', '-h', 'carillon-redis', 'PING'],
  };
  // A connection that is dropped on its way would be waited for much longer.
  const spec = { restartPolicy: 'Never', activeDeadlineSeconds: 20, containers: [container] };
  kubectl.apply({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'stranger' }, spec });
  const { phase } = await until('it has tried', () => {
    const { status } = kubectl.json('get', 'pod', 'stranger');
    return ['Succeeded', 'Failed'].includes(status.phase) && status;
  }, 120_000);
  const said = kubectl.run('logs', 'stranger', '--ignore-errors');
  kubectl.run('delete', 'pod', 'stranger');
  if (/NOAUTH/.test(said)) return context.diagnostic('this cluster\'s network enforces no NetworkPolicy: not tested beyond what the API server takes');
  assert.equal(phase, 'Failed', said);
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
  assert.match(release.deploy({ dispatcher: { replicas: 0 } }), /ATTENTION: without at least one gateway, dispatcher and ingest/);
  await until('the dispatchers are gone', () => kubectl.pods('dispatcher').length === 0, 120_000);
  for (const pod of kubectl.pods('gateway')) {
    await until('readyz explains it', async () => {
      const { ok, text } = await admin(pod, '/readyz');
      return ok && /dispatchers: none is alive/.test(text);
    }, 60_000);
  }
});
