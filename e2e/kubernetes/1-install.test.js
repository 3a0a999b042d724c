// `helm install` into a namespace that enforces the restricted Pod Security Standard, the commands of NOTES as a person
// would paste them, and a browser.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { launch } from '../lib/browser.js';
import { Helm, features, tool } from '../lib/helm.js';
import { freePort } from '../lib/ports.js';
import { Tab } from '../lib/tab.js';
import { until } from '../lib/until.js';
import { admin, metric, run } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const release = new Release();
const { kubectl } = release;
/** A second one beside it, that nobody needs. */
const idle = new Release('carillon-e2e-idle', 'carillon-idle');
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
  run('kubectl', ['delete', 'namespace', idle.namespace, '--ignore-not-found', '--wait=false']);
});

test('three gateways are ready, and nothing in the namespace breaks the restricted standard', () => {
  assert.equal(kubectl.ready('gateway').length, 3);
  const warned = run('kubectl', ['label', '--dry-run=server', '--overwrite', 'namespace', release.namespace, 'pod-security.kubernetes.io/enforce=restricted'], {});
  assert.doesNotMatch(warned, /violate/);
});

/**
 * Pastes what NOTES say, as it stands there: first the part about a client, which goes on listening, then the one about a
 * message. Gives what the two printed.
 */
async function paste(notes, release) {
  const part = (from, to) => {
    const text = notes.slice(notes.indexOf(from), notes.indexOf(to));
    return text.slice(text.indexOf('\n'));
  };
  const shells = [];
  const shell = (text) => {
    // In a group of its own: what it leaves running is ended with it.
    const child = spawn('bash', ['-c', text], { cwd: new URL('..', import.meta.url).pathname, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const shell = { child, out: '', err: '' };
    child.stdout.on('data', (data) => { shell.out += data; });
    child.stderr.on('data', (data) => { shell.err += data; });
    shells.push(shell);
    return shell;
  };
  try {
    const listening = shell(part('3. Connect', '4. Or let Helm'));
    const connected = () => release.kubectl.ready('gateway').reduce(async (all, pod) => (await all) + await metric(pod, 'carillon_gateway_sessions'), 0);
    const before = await connected();
    await until('the client of NOTES is connected', async () => (await connected()) > before, 60_000).catch((error) => { throw new Error(`${error.message}: ${listening.err}`); });
    const sent = shell(part('2. Send', '3. Connect'));
    await until('the client of NOTES hears it', () => listening.out.includes(`from ${release.name}`), 60_000)
      .catch((error) => { throw new Error(`${error.message}: ${sent.out} ${sent.err} ${listening.out} ${listening.err}`); });
    return { sent: sent.out, heard: listening.out };
  } finally {
    // A command in the background is of its shell's group, and may be all that is left of it.
    for (const { child } of shells) {
      try {
        process.kill(-child.pid);
      } catch (error) {
        if (error.code !== 'ESRCH') throw error;
      }
    }
  }
}

test('the commands of NOTES reach a client with default options and a browser', async () => {
  const { gateway } = release;
  const heard = [];
  socket = io(gateway);
  socket.on('hello', (data) => heard.push(data));
  browser = await launch();
  const { page } = await Tab.open(browser, gateway);
  await until('the client is connected', () => socket.connected);

  const { sent } = await paste(notes, release);
  assert.match(sent, /"offset"/);
  await until('the client hears it', () => heard.includes('from carillon'));
  await until('the page shows it', async () => (await page.textContent('#log')).includes('from carillon'));
  await page.screenshot({ path: new URL('../.artifacts/kubernetes-page.png', import.meta.url).pathname });
});

test('every feature of the chart is taken by the API server', (context) => {
  const helm = new Helm(tool('helm').path);
  // Of kinds that others define only those can be asked about that this cluster has.
  const kinds = new Set(run('kubectl', ['api-resources', '--no-headers']).trim().split('\n').map((line) => line.trim().split(/\s+/).slice(-3)).map(([version, , kind]) => `${version} ${kind}`));
  for (const feature of Object.keys(features)) {
    const { all } = helm.render(feature);
    const [here, foreign] = [[], []];
    for (const object of all) (kinds.has(`${object.apiVersion} ${object.kind}`) ? here : foreign).push(object);
    if (foreign.length) context.diagnostic(`${feature}: without ${foreign.map(({ kind, metadata }) => `${kind} ${metadata.name}`).join(', ')}, whose kinds this cluster does not have`);
    assert.ok(foreign.every(({ apiVersion }) => /^(keda.sh|monitoring.coreos.com|gateway.networking.k8s.io)\//.test(apiVersion)), feature);
    // All into this namespace, the ones for others, too.
    for (const { metadata } of here) if (metadata.namespace) metadata.namespace = release.namespace;
    const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: here });
    const taken = run('kubectl', ['apply', '--server-side', '--force-conflicts', '--dry-run=server', '--namespace', release.namespace, '--output', 'name', '--filename', '-'], { input });
    assert.equal(taken.trim().split('\n').length, here.length, feature);
  }
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
  for (const [verb, what, ...more] of [
    ['list', 'pushrooms.carillon.dev'], ['patch', 'pods'], ['create', 'secrets'], ['update', 'leases.coordination.k8s.io'],
    ['get', 'deployments.apps', '--subresource=scale'], ['patch', 'deployments.apps', '--subresource=scale'],
  ]) {
    assert.ok(kubectl.may(account, verb, what, ...more), `${verb} ${what} ${more.join(' ')}`);
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
  await explained(release);
});

/** Every gateway is ready, as taking it out would help nobody, and says what is missing. */
async function explained({ kubectl }) {
  for (const pod of kubectl.pods('gateway')) {
    await until('readyz explains it', async () => {
      const { ok, text } = await admin(pod, '/readyz');
      return ok && /dispatchers: none is alive/.test(text);
    }, 60_000);
  }
}

test('installed without dispatchers it is ready and says so; with one, the commands of NOTES work by port-forward', async () => {
  const one = { replicas: 1 };
  const small = {
    // The definitions belong to the other release.
    crds: { install: false },
    gateway: { ...one, service: { type: 'ClusterIP', port: await freePort() } },
    ingest: { ...one, service: { type: 'ClusterIP', httpPort: await freePort() } },
    operator: one,
  };
  idle.makeNamespace();
  assert.match(idle.deploy({ ...small, dispatcher: { replicas: 0 } }), /ATTENTION: without at least one gateway, dispatcher and ingest/);
  assert.deepEqual([idle.kubectl.pods('dispatcher').length, idle.kubectl.ready('gateway').length], [0, 1]);
  await explained(idle);

  const notes = idle.deploy({ ...small, dispatcher: one });
  assert.match(notes, /port-forward service\/carillon-idle-ingest/);
  await idle.key();
  const { sent } = await paste(notes, idle);
  assert.match(sent, /"offset"/);
  idle.helm('uninstall', idle.name, '--wait', '--timeout', '3m');
  await until('its pods are gone', () => idle.kubectl.json('get', 'pods').items.length === 0, 120_000);
});
