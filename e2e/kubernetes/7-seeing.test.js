// What the chart shows of a running release can be seen on a cluster, too: a real Prometheus scrapes every pod, operators as
// well, under the labels that the chart's PodMonitor and its ServiceMonitor bring about, and the dashboards ask for the
// namespace, the release and the pods that somebody chose. A collector of traces on this machine follows a message through
// the pods.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import { once } from 'node:events';
import test, { after, before } from 'node:test';
import YAML from 'yaml';
import { files } from '../../scripts/dashboards/build.mjs';
import { Collector } from '../lib/collector.js';
import { choices, expressionsOf, filled } from '../lib/dashboards.js';
import { Listener } from '../lib/listener.js';
import { Child } from '../lib/processes.js';
import { post } from '../lib/producer.js';
import { Prometheus } from '../lib/prometheus.js';
import { read } from '../lib/promql.js';
import { Traffic } from '../lib/traffic.js';
import { until } from '../lib/until.js';
import { targets } from './lib/monitors.js';
import { Release } from './lib/release.js';

const CLIENTS = 24;
const release = new Release();
const { kubectl } = release;
let values = { gateway: { replicas: 2 }, metrics: { dashboards: { enabled: true } } };
/** Each kind of monitor, and the Prometheus that scrapes as it says. */
const seen = new Map();
let dashboards;
let traffic;
let proxy;
let collector;
let headers;

/** The objects of a kind that the chart makes when asked for; a cluster of tests does not know these kinds. */
const rendered = (kind, metrics) => YAML.parseAllDocuments(release.render({ ...values, metrics }))
  .map((document) => document.toJS()).filter((object) => object?.kind === kind);

/** The address of this machine that it speaks with a node from; nothing is sent. */
async function towardsNodes() {
  const [node] = kubectl.json('get', 'nodes').items;
  const socket = dgram.createSocket('udp4');
  socket.connect(10250, node.status.addresses.find(({ type }) => type === 'InternalIP').address);
  await once(socket, 'connect');
  const { address } = socket.address();
  socket.close();
  return address;
}

before(async () => {
  // Rooms that others have closed would be in the way.
  release.makeNamespace();
  collector = await Collector.start(process.env.E2E_ADDRESS ?? await towardsNodes());
  // What is exported later than the spans that are waited for is not looked at.
  collector.caughtUp = async () => {};
  // Only what a caller wants recorded.
  values = { ...values, settings: { telemetry: { otlp: { endpoint: collector.endpoint }, sample_ratio: 0 } } };
  release.deploy(values);
  await release.settled();
  kubectl.apply(
    { apiVersion: 'carillon.dev/v1alpha1', kind: 'PushRoom', metadata: { name: 'seen' }, spec: { match: '*', join: 'anyone', publish: 'anyone', presence: true, history: { size: 200 } } },
    { apiVersion: 'carillon.dev/v1alpha1', kind: 'PushProducer', metadata: { name: 'seen' }, spec: { rooms: ['*'] } },
  );
  await until('the room is programmed', () => release.condition('pushroom', 'seen', 'Programmed').status === 'True', 60_000);
  headers = { authorization: `Bearer ${await release.key('seen')}` };
  await release.settled();

  // The way to the API server for a Prometheus that is not in the cluster, whatever one logs in with.
  proxy = new Child('kubectl-proxy', 'kubectl', ['proxy', '--port=0']);
  const address = await until(`kubectl proxy serves; its log: ${proxy.log}`, () => /127\.0\.0\.1:\d+/.exec(proxy.output())?.[0]);
  const there = { pods: kubectl.json('get', 'pods').items, services: kubectl.json('get', 'services').items };
  const [{ spec: rules }] = rendered('PrometheusRule', { rules: { enabled: true } });
  for (const [kind, metrics] of [['PodMonitor', { podMonitor: { enabled: true } }], ['ServiceMonitor', { serviceMonitor: { enabled: true } }]]) {
    const [monitor] = rendered(kind, metrics);
    const found = targets[kind](monitor, there).map(({ pod, port, path, labels }) => ({
      address, path: `/api/v1/namespaces/${release.namespace}/pods/${pod.metadata.name}:${port}/proxy${path}`, labels,
    }));
    seen.set(kind, { found, prometheus: await Prometheus.start(found, new Map([['rules.yaml', YAML.stringify(rules, { lineWidth: 0 })]])) });
  }
  dashboards = kubectl.json('get', 'configmaps', '--selector', 'grafana_dashboard=1').items.flatMap(({ data }) => Object.entries(data));
  traffic = await Traffic.begin({ gateways: [release.gateway], ingest: release.ingest, headers, size: CLIENTS });
});
after(async () => {
  traffic?.stop();
  for (const { prometheus } of seen.values()) await prometheus.remove();
  await proxy?.kill();
  await collector?.kill();
  release.remove();
});

for (const kind of Object.keys(targets)) {
  test(`${kind}: every pod of the release is scraped, once`, async () => {
    const { found, prometheus } = seen.get(kind);
    const pods = ['gateway', 'dispatcher', 'ingest', 'operator'].flatMap((component) => kubectl.pods(component)).map(({ metadata }) => metadata.name);
    assert.deepEqual(found.map(({ labels }) => labels.pod).sort(), pods.sort());
    await until('all are up', async () => {
      const up = await prometheus.query('up == 1');
      return up.length === pods.length;
    }).catch(async (error) => { throw new Error(JSON.stringify(await prometheus.api('targets'), null, 2), { cause: error }); });
  });

  test(`${kind}: every panel shows the namespace, release and pods chosen, every alert has what it looks at`, async () => {
    const { prometheus } = seen.get(kind);
    const expressions = new Map();
    const elsewhere = new Map();
    assert.deepEqual(dashboards.map(([name]) => name).sort(), [...files.keys()].sort());
    for (const [name, text] of dashboards) {
      const offered = {};
      const values = await choices(text, prometheus, (variable, all) => {
        offered[variable] = all;
        return all;
      });
      assert.deepEqual([offered.namespace, offered.job, offered.pod.length], [[release.namespace], [release.name], seen.get(kind).found.length], name);
      for (const [expression, where] of expressionsOf([[name, text]])) {
        expressions.set(filled(expression, { ...values, __rate_interval: '15s' }), where);
        elsewhere.set(filled(expression, { ...values, namespace: 'elsewhere', __rate_interval: '15s' }), where);
      }
    }
    const rules = await prometheus.rules();
    assert.ok(expressions.size > 150 && rules.length > 30, `${expressions.size} expressions, ${rules.length} rules`);
    await prometheus.haveData(new Map([...expressions, ...rules.filter(({ type }) => type === 'recording').map(({ name }) => [name, 'recorded'])]));
    await prometheus.haveSeries(read([...expressions, ...rules.map(({ query, name }) => [query, name])]).usual);
    for (const rule of await prometheus.rules()) assert.equal(rule.health, 'ok', `${rule.name}: ${rule.lastError}`);
    for (const [expression, where] of elsewhere) {
      if (!expression.endsWith('or vector(0)')) assert.deepEqual(await prometheus.query(expression), [], `${where} shows what is not of the namespace: ${expression}`);
    }
  });

  test(`${kind}: what is shown is what there is`, async () => {
    const { prometheus } = seen.get(kind);
    const shows = async (panel, value) => {
      const [name, title] = panel.split(': ');
      const [{ expr }] = JSON.parse(new Map(dashboards).get(name)).panels.find((one) => one.title === title).targets;
      const expression = filled(expr, { namespace: release.namespace, job: release.name, pod: '.*', __rate_interval: '15s' });
      let last;
      await until(panel, async () => {
        last = (await prometheus.query(expression)).map((series) => Number(series.value[1]));
        return last.length === 1 && value(last[0]);
      }).catch((error) => { throw new Error(`${panel} shows ${last}`, { cause: error }); });
    };
    await shows('operator.json: Leaders', (number) => number === 1);
    await shows('operator.json: Pods programmed', (number) => number === ['gateway', 'dispatcher', 'ingest'].flatMap((component) => kubectl.pods(component)).length);
    await shows('dispatcher.json: Dispatchers', (number) => number === kubectl.pods('dispatcher').length);
    await shows('dispatcher.json: Unowned', (number) => number === 0);
    // With those who come and go.
    await shows('overview.json: Sessions', (number) => number >= CLIENTS && number < 2 * CLIENTS);
    await shows('overview.json: Pods ready', (number) => number === 1);
    await shows('overview.json: Accepted', (number) => number > 5);
    await shows('overview.json: Delivered', (number) => number > 5);
  });
}

test('from a POST through the pods to the acknowledgement of a client it is one trace', async () => {
  const hear = (auth) => new Listener(release.gateway, { rooms: ['traced'], options: { transports: ['websocket'], auth } });
  // Enough for both gateways to have some, wherever the Service leads.
  const clients = Array.from({ length: 16 }, (_, number) => hear({ acknowledge: number === 0 }));
  clients[0].socket.on('tick', (...parts) => parts.at(-1)());
  await until('all are settled', () => clients.every((client) => client.settled));
  const trace = randomBytes(16).toString('hex');
  const span = randomBytes(8).toString('hex');
  const answer = await post(release.ingest, { to: { room: 'traced' }, event: 'tick', data: 1 }, { ...headers, traceparent: `00-${trace}-${span}-01` });
  assert.equal(answer.status, 202, JSON.stringify(answer.body));
  await until('all have it', () => clients.every((client) => client.of('traced').length === 1));
  const { publish: [publish], dispatch: [dispatch], deliver, write, acknowledge: [acknowledge] } = await collector.tree(trace, { publish: 1, dispatch: 1, deliver: 2, write: 16, acknowledge: 1 })
    .catch((error) => { throw new Error(`${error.message}; pods send to ${collector.endpoint}: E2E_ADDRESS says where else they reach this machine`, { cause: error }); });
  assert.deepEqual([publish.service, publish.parent], ['carillon-ingest', span]);
  assert.deepEqual([dispatch.service, dispatch.parent], ['carillon-dispatcher', publish.id]);
  assert.deepEqual(deliver.map(({ attributes }) => attributes.gateway.split('@')[0]).sort(), kubectl.pods('gateway').map(({ metadata }) => metadata.name).sort());
  assert.ok(deliver.every(({ parent }) => parent === dispatch.id));
  assert.ok(write.every(({ parent }) => deliver.some(({ id }) => id === parent)));
  assert.deepEqual(new Set(write.map(({ attributes }) => attributes.session)), new Set(clients.map((client) => client.socket.id)));
  const { parent, attributes } = acknowledge;
  assert.deepEqual([attributes.session, attributes.acknowledged, write.find(({ id }) => id === parent)?.attributes.session], [clients[0].socket.id, true, clients[0].socket.id]);
  clients.forEach((client) => client.close());
});
