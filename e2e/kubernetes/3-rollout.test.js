// A deploy with clients connected loses nothing and storms nobody. CLIENTS=2000 is the long form.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { until } from '../lib/until.js';
import { Crowd } from './lib/crowd.js';
import { metric } from './lib/kubectl.js';
import { Release } from './lib/release.js';

const CLIENTS = Number(process.env.CLIENTS ?? 300);
const RATE = 30;
const GATEWAYS = 3;
// What a gateway lets go of: its own sessions, and those of others that it carries because a balancer sent them here.
const CONNECTIONS = (CLIENTS / GATEWAYS) * (2 - 1 / GATEWAYS);
const DRAIN_SECONDS = Math.ceil(CONNECTIONS / RATE);
const release = new Release();
const { kubectl } = release;
let crowd;

before(async () => {
  release.deploy({
    // As the guide says: one gateway drains at a time if the next has to be ready for as long as a drain takes.
    gateway: { replicas: GATEWAYS, minReadySeconds: DRAIN_SECONDS + 5, drain: { rate: RATE, timeoutSeconds: 2 * DRAIN_SECONDS + 30 } },
    pushCluster: { spec: { policy: { anonymous: { sessions: true }, rooms: [{ match: 'crowd', join: 'anyone', history: { size: 50000, bytes: '64MiB' } }] } } },
  });
  await release.settled();
  crowd = await Crowd.gather(release.gateway, CLIENTS);
  await crowd.listenTo(release.ingest, await release.key());
});
after(() => crowd?.disperse());

test('rollout restart of every Deployment', async (context) => {
  const seen = [];
  let watching = true;
  const watch = (async () => {
    while (watching) {
      // Those on their way out, too: their sessions leave one by one.
      const { items } = await kubectl.read('get', 'pods', '--selector', 'app.kubernetes.io/component=gateway');
      const counts = await Promise.all(items.map((pod) => metric(pod, 'carillon_gateway_sessions').catch(() => 0)));
      seen.push(counts.reduce((one, two) => one + two, 0));
    }
  })();
  for (const component of ['gateway', 'dispatcher', 'ingest', 'operator']) {
    kubectl.run('rollout', 'restart', `deployment/carillon-${component}`);
  }
  for (const component of ['dispatcher', 'ingest', 'operator', 'gateway']) await kubectl.rollout(component);
  await until('all clients are connected', () => crowd.clients.every((client) => client.socket.connected), 120_000);
  await until('old gateways are gone', async () => (await kubectl.read('get', 'pods', '--selector', 'app.kubernetes.io/component=gateway')).items.length === GATEWAYS, 180_000);
  watching = false;
  await watch;

  // Every client comes back about once for each gateway that goes. Stock clients wait for a random while before they do,
  // so some seconds see more of them than were let go.
  const busiest = crowd.busiestSecond();
  context.diagnostic(`${crowd.connects.length} connects, ${busiest} of them in the busiest second, ${Math.min(...seen)} sessions at least; lost by ${JSON.stringify([...crowd.reasons])}`);
  assert.ok(busiest <= RATE * 2, `${busiest} connects in a second at a rate of ${RATE}`);
  // The gauge glides: those who are on their way are as many as leave in a few seconds.
  assert.ok(seen.length > 3, 'the gauge was watched');
  const fewest = Math.min(...seen);
  assert.ok(fewest >= CLIENTS - RATE * 4, `only ${fewest} of ${CLIENTS} sessions at a time`);
});

test('nothing was lost, doubled or disordered', () => crowd.audit());
