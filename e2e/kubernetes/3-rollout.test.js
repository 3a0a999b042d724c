// A deploy with clients connected loses nothing and storms nobody. CLIENTS=2000 is the long form.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { until } from '../lib/until.js';
import { Crowd } from './lib/crowd.js';
import { metric } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const CLIENTS = Number(process.env.CLIENTS ?? 300);
const RATE = 30;
const release = new Release();
const { kubectl } = release;
let crowd;

before(async () => {
  release.deploy({
    gateway: { replicas: 3, drain: { rate: RATE, timeoutSeconds: Math.ceil(CLIENTS / RATE) + 30 } },
    pushCluster: { spec: { policy: { anonymous: { sessions: true }, rooms: [{ match: 'crowd', join: 'anyone', history: { size: 50000, bytes: '64MiB' } }] } } },
  });
  await release.settled();
  crowd = await Crowd.gather(release.gateway, CLIENTS);
  await crowd.listenTo(release.ingest, await release.key());
});
after(() => crowd?.disperse());

test('rollout restart of every Deployment', async () => {
  const seen = [];
  let watching = true;
  const watch = (async () => {
    while (watching) {
      // Those on their way out, too: their sessions leave one by one.
      const { items } = kubectl.json('get', 'pods', '--selector', 'app.kubernetes.io/component=gateway');
      const counts = await Promise.all(items.map((pod) => metric(pod, 'carillon_gateway_sessions').catch(() => 0)));
      seen.push(counts.reduce((one, two) => one + two, 0));
    }
  })();
  for (const component of ['gateway', 'dispatcher', 'ingest', 'operator']) {
    kubectl.run('rollout', 'restart', `deployment/carillon-${component}`);
  }
  for (const component of ['dispatcher', 'ingest', 'operator', 'gateway']) await kubectl.rollout(component);
  await until('all clients are connected', () => crowd.clients.every((client) => client.socket.connected), 120_000);
  await until('old gateways are gone', () => kubectl.json('get', 'pods', '--selector', 'app.kubernetes.io/component=gateway').items.length === 3, 180_000);
  watching = false;
  await watch;

  // Every client comes back about once for each gateway that goes, and never all of them at a time: with a surge of one,
  // one gateway drains at a time, at its rate; two at most overlap.
  const busiest = crowd.busiestSecond();
  assert.ok(busiest <= RATE * 3, `${busiest} connects in a second at a rate of ${RATE}`);
  // The gauge glides: those who are on their way are as many as leave in a few seconds.
  assert.ok(seen.length > 3, 'the gauge was watched');
  const fewest = Math.min(...seen);
  assert.ok(fewest >= CLIENTS - RATE * 4, `only ${fewest} of ${CLIENTS} sessions at a time`);
});

test('nothing was lost, doubled or disordered', () => crowd.audit());
