// A deploy with clients connected loses nothing and storms nobody. CLIENTS=2000 is the long form.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { until } from '../lib/until.js';
import { Crowd } from './lib/crowd.js';
import { metrics } from './lib/kubectl.js';
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

/** What all gateways tell of themselves at a moment, those on their way out, too: their sessions leave one by one. */
async function look() {
  const asked = performance.now();
  const pods = (await kubectl.everyPod('gateway')).filter(({ status }) => status.containerStatuses?.[0].started);
  const told = await Promise.all(pods.map(async (pod) => {
    // Who is on its way out may be gone by now, and then has no sessions. An address that is gone may not even refuse.
    const read = await metrics(pod, 500).catch((error) => { if (!pod.metadata.deletionTimestamp) throw error; });
    return { name: pod.metadata.name, sessions: read?.('carillon_gateway_sessions') ?? 0, gone: read?.('carillon_gateway_sessions_closed_total', 'reason="draining"') };
  }));
  const sessions = told.reduce((all, one) => all + one.sessions, 0);
  return { asked, answered: performance.now(), sessions, gone: Object.fromEntries(told.map(({ name, gone }) => [name, gone])) };
}

/** The most sessions a second that gateways let go of together, over spans of a second and longer. */
function fastest(samples) {
  let most = 0;
  samples.forEach((first, place) => {
    const last = samples.slice(place).find(({ asked }) => asked - first.answered >= 1_000);
    if (!last) return;
    const gone = Object.keys(last.gone).reduce((all, name) => all + (last.gone[name] ?? first.gone[name] ?? 0) - (first.gone[name] ?? 0), 0);
    // The counters were read at some time within each look, so the span may have been as long as this.
    most = Math.max(most, gone / ((last.answered - first.asked) / 1_000));
  });
  return most;
}

test('rollout restart of every Deployment', async (context) => {
  const samples = [];
  let watching = true;
  const watch = (async () => {
    while (watching) {
      const sample = await look().catch((error) => context.diagnostic(`a look failed: ${error.message}`));
      if (sample) samples.push(sample);
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
  })();
  await until('the gauge is watched', () => samples.length > 0);
  for (const component of ['gateway', 'dispatcher', 'ingest', 'operator']) {
    kubectl.run('rollout', 'restart', `deployment/carillon-${component}`);
  }
  for (const component of ['dispatcher', 'ingest', 'operator', 'gateway']) await kubectl.rollout(component);
  await until('old gateways are gone', async () => (await kubectl.everyPod('gateway')).length === GATEWAYS, 180_000);
  await until('all clients are connected', () => crowd.clients.every((client) => client.socket.connected), 120_000);
  watching = false;
  await watch;

  const seconds = (samples.at(-1).answered - samples[0].answered) / 1_000;
  const pause = Math.max(...samples.slice(1).map(({ answered }, place) => (answered - samples[place].answered) / 1_000));
  const fewest = Math.min(...samples.map(({ sessions }) => sessions));
  const [released, second, few] = [fastest(samples), crowd.busiest(1), crowd.busiest(4)];
  context.diagnostic(`${samples.length} looks in ${seconds.toFixed(1)} s, ${pause.toFixed(2)} s between two at most; ${fewest} of ${CLIENTS} sessions at least`);
  context.diagnostic(`gateways let go of ${released.toFixed(1)} sessions a second at most; of ${crowd.connects.length} connects ${second} came in the busiest second, ${few.toFixed(1)} a second in the busiest four; lost by ${JSON.stringify([...crowd.reasons])}`);

  // What gateways let go of is bounded: sessions, and what they carry for others, within the one rate.
  assert.ok(released > 0 && released <= RATE * 1.1, `${released} sessions a second were let go of at a rate of ${RATE}`);
  // Their clients come back as evenly, but each after a short wait of its own that is random, as stock clients do. That
  // bunches some of them for a second; over a few seconds it hardly counts.
  assert.ok(few <= RATE * 1.2, `${few} connects a second over four seconds at a rate of ${RATE}`);
  assert.ok(second <= RATE * 1.6, `${second} connects in a second at a rate of ${RATE}`);
  // The gauge glides: who is on the way was let go of in the last moments. A gateway's share at once would be more.
  assert.ok(RATE * 2 < CLIENTS / GATEWAYS, 'a gateway that loses all at once would be seen');
  assert.ok(fewest >= CLIENTS - RATE * 2, `only ${fewest} of ${CLIENTS} sessions at a time`);
  assert.ok(samples.length >= seconds && pause <= 2, 'the gauge was watched all the time');
});

test('nothing was lost, doubled or disordered', () => crowd.audit());
