// One release of the chart, as a team would have it.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { until } from '../../lib/until.js';
import { guard } from './hygiene.js';
import { Kubectl, run } from './kubectl.js';

const chart = path.resolve(import.meta.dirname, '../../../helm/carillon');
const [repository, tag] = process.env.E2E_IMAGE?.split(/:(?=[^/:]+$)/) ?? [];
const [redisRepository, redisTag] = process.env.E2E_REDIS_IMAGE?.split(/:(?=[^/:]+$)/) ?? [];

const anywhere = ['0.0.0.0/0', '::/0'].map((cidr) => ({ ipBlock: { cidr } }));

/**
 * What a cluster of one small node, without a registry, needs to be told beside the defaults. And where the network enforces
 * policies: producers and who reads metrics, both on this machine, come from outside.
 */
const here = {
  // The hygiene of logs is looked at with all that can be logged.
  settings: { log: { level: 'trace' } },
  networkPolicy: { producers: anywhere, metrics: anywhere },
  image: { repository, tag },
  redis: { embedded: { enabled: true, image: { repository: redisRepository, tag: redisTag }, resources: { requests: { cpu: '10m', memory: '32Mi' } } } },
  gateway: { service: { type: 'NodePort' }, resources: { requests: { cpu: '10m', memory: '32Mi' } } },
  dispatcher: { resources: { requests: { cpu: '10m', memory: '32Mi' } } },
  ingest: { service: { type: 'NodePort' }, resources: { requests: { cpu: '10m', memory: '32Mi' } } },
  operator: { resources: { requests: { cpu: '10m', memory: '32Mi' } } },
};

/** Values beside those of this cluster, for Helm's command line. */
function files(values) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-values-'));
  return [here, values].flatMap((content, place) => {
    const file = path.join(folder, `${place}.json`);
    fs.writeFileSync(file, JSON.stringify(content));
    return ['--values', file];
  });
}

export class Release {
  constructor(namespace = 'carillon-e2e', name = 'carillon') {
    this.namespace = namespace;
    this.name = name;
    this.kubectl = new Kubectl(namespace);
  }

  /** A new namespace that enforces the restricted Pod Security Standard. */
  makeNamespace() {
    run('kubectl', ['delete', 'namespace', this.namespace, '--ignore-not-found', '--wait']);
    this.haveNamespace();
  }

  haveNamespace() {
    const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
    this.kubectl.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: this.namespace, labels } });
    guard(this.namespace, { components: ['gateway', 'ingest', 'operator'] });
  }

  /** `helm upgrade --install --wait`, with values beside those of this cluster. */
  deploy(values = {}, more = []) {
    this.haveNamespace();
    // Helm 4 leaves `replicas` to whoever scaled by hand, unless it is told otherwise.
    const all = run('helm', ['upgrade', '--help']).includes('--force-conflicts') ? ['--force-conflicts'] : [];
    return run('helm', ['upgrade', '--install', this.name, chart, '--namespace', this.namespace, '--wait', '--timeout', '8m', ...all, ...files(values), ...more]);
  }

  /** What the chart makes of these values, as text; nothing is changed. */
  render(values) {
    return run('helm', ['template', this.name, chart, '--namespace', this.namespace, ...files(values)]);
  }

  helm(...args) {
    return run('helm', ['--namespace', this.namespace, ...args]);
  }

  /** The address of a Service's port on the node. */
  address(component, port) {
    const { spec } = this.kubectl.json('get', 'service', `${this.name}-${component}`);
    const [node] = this.kubectl.json('get', 'nodes').items;
    const { address } = node.status.addresses.find(({ type }) => type === 'InternalIP');
    return `http://${address}:${spec.ports.find(({ name }) => name === port).nodePort}`;
  }

  get gateway() {
    return this.address('gateway', 'http');
  }

  get ingest() {
    return this.address('ingest', 'http');
  }

  /** The key of a producer, by default of the chart's, once the operator has made it. */
  async key(producer = `${this.name}-default`) {
    return until(`the key of ${producer}`, () => {
      const { status } = this.kubectl.json('get', 'pushproducer', producer);
      const { data } = this.kubectl.json('get', 'secret', status.secretName);
      return Buffer.from(data.key, 'base64').toString();
    }, 60_000);
  }

  /** Until everything is as it should be, and every pod applies the newest policy. */
  async settled() {
    for (const component of ['gateway', 'dispatcher', 'ingest', 'operator']) await this.kubectl.rollout(component);
    await until('the policy is programmed', () => this.condition('pushcluster', 'carillon', 'Programmed').status === 'True', 120_000);
  }

  condition(kind, name, type) {
    const { status } = this.kubectl.json('get', kind, name);
    return status?.conditions?.find((condition) => condition.type === type) ?? {};
  }

  remove() {
    spawnSync('helm', ['--namespace', this.namespace, 'uninstall', this.name, '--wait', '--timeout', '3m', '--ignore-not-found'], { encoding: 'utf8' });
    run('kubectl', ['delete', 'namespace', this.namespace, '--ignore-not-found', '--wait']);
  }
}
