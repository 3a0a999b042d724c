// Custom resources change what holds, live; wrong ones are refused with what to do.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { Listener } from '../lib/listener.js';
import { Producer, post } from '../lib/producer.js';
import { until } from '../lib/until.js';
import { guard } from './lib/hygiene.js';
import { Kubectl, run } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const TENANT = 'carillon-e2e-tenant';
const release = new Release();
const { kubectl } = release;
let key;
let ingest;
let client;

before(async () => {
  release.deploy({ gateway: { replicas: 2 } });
  await release.settled();
  ({ ingest } = release);
  key = await release.key();
  client = new Listener(release.gateway);
  await until('the client is connected', () => client.settled);
});
after(() => {
  client?.close();
  run('kubectl', ['delete', 'namespace', TENANT, '--ignore-not-found', '--wait=false']);
});

const room = (name, spec) => ({ apiVersion: 'carillon.dev/v1alpha1', kind: 'PushRoom', metadata: { name, namespace: release.namespace }, spec });
const programmed = (name) => until(`${name} is programmed`, () => release.condition('pushroom', name, 'Programmed').status === 'True', 60_000);
const ask = (event, body) => client.socket.timeout(10_000).emitWithAck(event, body);
const send = (body, by = key) => post(ingest, body, { authorization: `Bearer ${by}` });

test('a PushRoom opens a room and keeps history, and closing it is heard at once', async () => {
  assert.equal((await ask('join', { room: 'news' })).ok, false);
  kubectl.apply(room('news', { match: 'news', join: 'anyone', history: { size: 5 } }));
  await programmed('news');
  assert.equal((await ask('join', { room: 'news' })).ok, true);
  for (let number = 0; number < 8; number += 1) await send({ to: { room: 'news' }, event: 'tick', data: number });
  await until('all came', () => client.of('news').length === 8);
  const kept = await ask('history', { room: 'news', limit: 100 });
  assert.deepEqual(kept.messages.map(({ data }) => data), [7, 6, 5, 4, 3]);

  kubectl.apply(room('news', { match: 'news', join: 'nobody', history: { size: 2 } }));
  await until('newcomers are refused', async () => {
    const late = new Listener(release.gateway);
    await until('connected', () => late.settled);
    const answer = await late.socket.timeout(10_000).emitWithAck('join', { room: 'news' });
    late.close();
    return !answer.ok;
  }, 60_000);
});

test('a wrong one is refused with what to do', () => {
  assert.match(kubectl.refusal(room('open', { match: 'lobby[', join: 'anyone' })), /close every \[ and \{/);
  assert.match(kubectl.refusal(room('negative', { match: 'x', history: { size: -1 } })), /size/);
  assert.match(kubectl.refusal(room('word', { match: 'x', join: 'everybody' })), /anyone/);
});

test('of two for the same rooms the older holds, and the younger says so', async () => {
  kubectl.apply(room('older', { match: 'both', join: 'anyone' }));
  await programmed('older');
  kubectl.apply(room('younger', { match: 'both', join: 'nobody' }));
  const told = await until('the younger says so', () => {
    const accepted = release.condition('pushroom', 'younger', 'Accepted');
    return accepted.status === 'False' && accepted;
  }, 60_000);
  assert.match(told.message, /older/);
  assert.equal((await ask('join', { room: 'both' })).ok, true);
});

test('a key is rotated while its producer sends: no request fails, and what was taken is heard, once and in order', async () => {
  kubectl.apply(room('rotation', { match: 'rotation', join: 'anyone', history: { size: 20000, bytes: '64MiB' } }));
  await programmed('rotation');
  const listener = new Listener(release.gateway, { rooms: ['rotation'] });
  await until('there is a listener', () => listener.settled);
  const taken = new Producer(ingest);
  const refused = [];
  let current = key;
  let stop = false;
  const flow = (async () => {
    for (let number = 0; !stop; number += 1) {
      const { status, body } = await send({ to: { room: 'rotation' }, event: 'tick', data: number }, current);
      if (status === 202) taken.keep(body);
      else refused.push(status);
    }
  })();
  const sent = () => taken.accepted.length + refused.length;
  kubectl.run('annotate', 'pushproducer', 'carillon-default', `carillon.dev/rotate=${Date.now()}`, '--overwrite');
  const next = await until('there is another key', async () => {
    const found = await release.key();
    return found !== key && found;
  }, 60_000);
  // The old key goes on for a while, as a program would that has not read the Secret again yet.
  const before = sent();
  await until('the old key goes on', () => sent() > before + 10);
  current = next;
  await until('the new key is taken', () => sent() > before + 20);
  // Its cursor has to bring it what it misses.
  listener.socket.io.engine.close();
  await until('the listener came back', () => listener.connects === 2 && sent() > before + 40);
  stop = true;
  await flow;
  assert.deepEqual(refused, []);
  const { offset } = taken.accepted.at(-1);
  await until('the listener has the last one', () => listener.of('rotation').at(-1)?.offset === offset, 60_000);
  assert.deepEqual(listener.audit(taken.accepted, ['rotation']), []);
  assert.deepEqual(listener.gaps.filter(({ room, above }) => room === 'rotation' && above), [], 'what it missed came after');
  listener.close();

  kubectl.run('patch', 'pushproducer', 'carillon-default', '--type=merge', '--patch', '{"spec":{"suspend":true}}');
  await until('a suspended producer is refused', async () => [401, 403].includes((await send({ to: 'all', event: 'tick', data: 0 }, next)).status), 60_000);
  kubectl.run('patch', 'pushproducer', 'carillon-default', '--type=merge', '--patch', '{"spec":{"suspend":false}}');
  await until('and taken again', async () => (await send({ to: 'all', event: 'tick', data: 0 }, next)).status === 202, 60_000);
});

test('with rights in the whole cluster what other namespaces say counts, too, and without them no more', async () => {
  const tenant = new Kubectl(TENANT);
  run('kubectl', ['create', 'namespace', TENANT]);
  guard(TENANT);
  tenant.apply(
    { ...room('tenants', { match: 'tenants', join: 'anyone' }), metadata: { name: 'tenants', namespace: TENANT } },
    { apiVersion: 'carillon.dev/v1alpha1', kind: 'PushProducer', metadata: { name: 'tenant', namespace: TENANT }, spec: { rooms: ['tenants'] } },
  );
  assert.equal((await ask('join', { room: 'tenants' })).ok, false);
  release.deploy({ gateway: { replicas: 2 }, operator: { watch: ['*'] } });
  await until('the room is open', async () => (await ask('join', { room: 'tenants' })).ok, 120_000);
  const tenantKey = await until('its producer has a key', () => {
    const { data } = tenant.json('get', 'secret', tenant.json('get', 'pushproducer', 'tenant').status.secretName);
    return Buffer.from(data.key, 'base64').toString();
  }, 60_000);
  await until('it may send', async () => (await send({ to: { room: 'tenants' }, event: 'tick', data: 1 }, tenantKey)).status === 202, 60_000);
  assert.equal((await send({ to: { room: 'news' }, event: 'tick', data: 1 }, tenantKey)).status, 403);
  await until('it is heard', () => client.of('tenants').length === 1);

  // Elsewhere it reads objects, keeps keys and tells what became of them. Pods and all that runs are none of its business.
  const account = kubectl.pods('operator')[0].spec.serviceAccountName;
  const may = (...what) => kubectl.may(account, ...what, '--namespace', TENANT);
  for (const what of [['list', 'pushrooms.carillon.dev'], ['patch', 'pushproducers.carillon.dev', '--subresource=status'], ['create', 'secrets'], ['create', 'events.events.k8s.io']]) {
    assert.ok(may(...what), what.join(' '));
    assert.ok(kubectl.may(account, ...what, '--all-namespaces'), `${what.join(' ')} everywhere`);
  }
  for (const what of [
    ['get', 'pods'], ['list', 'pods'], ['patch', 'pods'], ['delete', 'pods'], ['create', 'pods'], ['create', 'pods', '--subresource=exec'], ['get', 'pods', '--subresource=log'],
    ['get', 'deployments.apps'], ['patch', 'deployments.apps'], ['patch', 'deployments.apps', '--subresource=scale'], ['get', 'leases.coordination.k8s.io'], ['update', 'leases.coordination.k8s.io'],
    ['get', 'configmaps'], ['create', 'serviceaccounts', '--subresource=token'], ['delete', 'pushrooms.carillon.dev'], ['patch', 'pushrooms.carillon.dev'], ['create', 'pushproducers.carillon.dev'],
    ['update', 'secrets'], ['deletecollection', 'secrets'], ['create', 'roles.rbac.authorization.k8s.io'], ['bind', 'clusterroles.rbac.authorization.k8s.io'], ['escalate', 'clusterroles.rbac.authorization.k8s.io'],
    ['get', 'nodes'], ['list', 'namespaces'], ['impersonate', 'users'], ['patch', 'customresourcedefinitions.apiextensions.k8s.io'],
  ]) assert.ok(!may(...what), what.join(' '));

  release.deploy({ gateway: { replicas: 2 } });
  await until('its key is refused', async () => (await send({ to: { room: 'tenants' }, event: 'tick', data: 2 }, tenantKey)).status === 401, 120_000);
});
