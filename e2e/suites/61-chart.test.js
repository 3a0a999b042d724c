// The chart: what it renders for every feature is what Kubernetes and Carillon understand, it keeps its promises, and values that
// can't be are refused with a sentence. Nothing here needs a cluster.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import YAML from 'yaml';
import { Helm, chart, features, tool } from '../lib/helm.js';

const found = tool('helm');
const skip = found.missing ?? false;
if (skip) console.error(`chart: SKIPPED: ${skip}`);
const helm = new Helm(found.path);
const trial = { redis: { embedded: { enabled: true } } };
const bare = { ...trial, operator: { enabled: false } };
const components = ['gateway', 'dispatcher', 'ingest', 'operator'];
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-chart-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** The services that this binary has, by its own help. */
const commands = spawnSync(process.env.E2E_BINARY, ['--help'], { encoding: 'utf8' }).stdout ?? '';
const known = components.filter((component) => new RegExp(`^ +${component} `, 'm').test(commands));
assert.ok(known.length >= 3, commands);

test('reference and schema are those of values.yaml', () => {
  const checked = spawnSync(path.resolve(chart, '../../scripts/chart-docs'), ['--check'], { encoding: 'utf8' });
  assert.equal(checked.status, 0, checked.stderr);
});

test('the schema lets nothing through that has no name', () => {
  const open = [];
  // Kubernetes itself says what may stand there.
  const free = /\.(podSecurityContext|securityContext|affinity|behavior|advanced)$|^\.(pushCluster\.spec|global)$/;
  const look = (schema, at) => {
    if (schema.type === 'object' && schema.additionalProperties === undefined && !free.test(at)) open.push(at);
    for (const [name, below] of Object.entries(schema.properties ?? {})) if (schema.additionalProperties === false) look(below, `${at}.${name}`);
  };
  look(JSON.parse(fs.readFileSync(path.join(chart, 'values.schema.json'), 'utf8')), '');
  assert.deepEqual(open, []);
});

test('the schema knows the whole policy', () => {
  const source = fs.readFileSync(path.resolve(chart, '../../services/model/src/policy/document.rs'), 'utf8');
  const read = source.match(/struct Document \{([^}]*)\}/)[1];
  // What is skipped is never read.
  const parts = [...read.replace(/#\[serde\(skip\)\]\s*pub\(super\) \w+/g, '').matchAll(/pub\(super\) (\w+):/g)].map(([, name]) => name);
  const { policy } = JSON.parse(fs.readFileSync(path.join(chart, 'values.schema.json'), 'utf8')).properties;
  assert.deepEqual(Object.keys(policy.properties).sort(), parts.sort());
});

test('metrics that values and pages name are there', () => {
  const root = path.resolve(chart, '../..');
  const known = new Set([...fs.readFileSync(path.join(root, 'docs/metrics.md'), 'utf8').matchAll(/^\| `(\w+)` \| (\w+)/gm)]
    .flatMap(([, name, type]) => (type === 'histogram' ? [name, ...['bucket', 'count', 'sum'].map((part) => `${name}_${part}`)] : [name])));
  assert.ok(known.size > 100);
  const recorded = new Set(YAML.parse(fs.readFileSync(path.join(chart, 'rules/recording.yaml'), 'utf8')).groups.flatMap(({ rules }) => rules.map(({ record }) => record)));
  // Crates are called so in settings of the log.
  const crates = new Set(fs.readdirSync(path.join(root, 'services')).map((name) => `carillon_${name}`));
  const pages = (folder, end) => fs.readdirSync(path.join(root, folder)).filter((name) => name.endsWith(end)).map((name) => path.join(folder, name));
  const files = [
    ...pages('helm/carillon/ci', '.yaml'), ...pages('helm/carillon/rules', '.yaml'), ...pages('docs', '.md'), ...pages('docs/runbooks', '.md'),
    'README.md', 'helm/carillon/README.md', 'helm/carillon/values.yaml', 'helm/carillon/templates/NOTES.txt',
  ];
  for (const file of files) {
    const text = fs.readFileSync(path.join(root, file), 'utf8');
    for (const [name] of text.matchAll(/\bcarillon_\w+/g)) {
      const there = known.has(name) || crates.has(name) || (name.endsWith('_') && [...known].some((one) => one.startsWith(name)));
      assert.ok(there, `${file}: ${name} is no metric of docs/metrics.md`);
    }
    for (const [name] of text.matchAll(/\bcarillon:\w+:\w+/g)) assert.ok(recorded.has(name), `${file}: ${name} is recorded by no rule`);
  }
});

describe('every feature', { skip }, () => {
  for (const [feature, file] of Object.entries(features)) {
    test(feature, () => {
      const linted = helm.run(['lint', '--strict', chart, '--values', file]);
      assert.equal(linted.status, 0, linted.stdout + linted.stderr);
      const objects = helm.render(feature);
      const names = objects.all.map(({ kind, metadata }) => `${kind}/${metadata.namespace}/${metadata.name}`);
      assert.equal(new Set(names).size, names.length, 'no object is there twice');
      for (const { kind, metadata } of objects.all) {
        assert.ok(metadata.name.length <= 63, metadata.name);
        assert.equal(metadata.labels['app.kubernetes.io/part-of'], 'carillon', `${kind} ${metadata.name}`);
      }

      const validated = spawnSync(tool('validate').path, { input: objects.text, encoding: 'utf8' });
      assert.equal(validated.status, 0, validated.stdout);
      const own = validated.stdout.split('\n').filter((line) => line.startsWith('foreign: ') && !/carillon.dev|monitoring.coreos.com|keda.sh|gateway.networking.k8s.io/.test(line));
      assert.deepEqual(own, [], 'everything else is known to Kubernetes');

      // Of a service that another binary has, this one knows no settings.
      for (const component of known.filter((component) => objects.of('Deployment').some(({ metadata }) => metadata.name.endsWith(`-${component}`)))) {
        const settings = path.join(folder, `${feature}-${component}.yaml`);
        fs.writeFileSync(settings, objects.settingsFile(component));
        const read = spawnSync(process.env.E2E_BINARY, [component, '--config', settings, '--print-settings'], { encoding: 'utf8' });
        assert.equal(read.status, 0, `${component}: ${read.stderr}`);
      }
      for (const { data } of objects.of('ConfigMap').filter(({ data }) => data['policy.yaml'])) {
        const policy = path.join(folder, `${feature}-policy.yaml`);
        fs.writeFileSync(policy, data['policy.yaml']);
        const read = spawnSync(process.env.E2E_BINARY, ['policy', 'check', policy], { encoding: 'utf8' });
        assert.equal(read.status, 0, read.stdout + read.stderr);
      }
    });
  }
});

describe('promises', { skip }, () => {
  const objects = skip ? null : helm.render(trial);
  const pod = (objects, component) => objects.get('Deployment', `-${component}`).spec.template.spec;

  test('every pod may run where the restricted standard is enforced', () => {
    const pods = Object.keys(features).flatMap((feature) => helm.render(feature).pods());
    assert.ok(pods.length > 60);
    for (const { name, spec } of pods) {
      const allowed = ['configMap', 'csi', 'downwardAPI', 'emptyDir', 'ephemeral', 'persistentVolumeClaim', 'projected', 'secret'];
      for (const volume of spec.volumes ?? []) assert.ok(Object.keys(volume).some((kind) => allowed.includes(kind)), `${name}: ${JSON.stringify(volume)}`);
      assert.equal(spec.securityContext.runAsNonRoot, true, name);
      assert.ok(spec.securityContext.runAsUser > 0, name);
      assert.equal(spec.securityContext.seccompProfile.type, 'RuntimeDefault', name);
      for (const own of ['hostNetwork', 'hostPID', 'hostIPC']) assert.equal(spec[own], undefined, name);
      for (const container of [...spec.containers, ...(spec.initContainers ?? [])]) {
        assert.deepEqual(container.securityContext, { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } }, name);
        assert.ok(container.resources.requests.cpu && container.resources.requests.memory && container.resources.limits.memory, name);
        assert.ok((container.ports ?? []).every(({ hostPort }) => !hostPort), name);
      }
    }
  });

  test('only the operator has a token, and no pod takes Services for settings', () => {
    for (const { name, labels, spec } of objects.pods()) {
      assert.equal(spec.automountServiceAccountToken, labels['app.kubernetes.io/component'] === 'operator', name);
      assert.equal(spec.enableServiceLinks, false, name);
    }
    for (const account of objects.of('ServiceAccount')) {
      assert.equal(account.automountServiceAccountToken, account.metadata.name.endsWith('-operator'), account.metadata.name);
    }
  });

  test('three probes on three endpoints', () => {
    for (const component of components) {
      const [container] = pod(objects, component).containers;
      assert.deepEqual(container.args, [component]);
      const paths = ['startupProbe', 'livenessProbe', 'readinessProbe'].map((probe) => container[probe].httpGet.path);
      assert.deepEqual(paths, ['/startupz', '/livez', '/readyz']);
      assert.equal(container.ports.find(({ name }) => name === 'admin').containerPort, 9090);
    }
  });

  test('every pod has the labels that the operator looks for, and selectors have no others', () => {
    for (const component of components) {
      const { spec } = objects.get('Deployment', `-${component}`);
      const want = { 'app.kubernetes.io/name': 'carillon', 'app.kubernetes.io/instance': 'push', 'app.kubernetes.io/component': component };
      assert.deepEqual(spec.selector.matchLabels, want);
      const { labels } = spec.template.metadata;
      for (const [label, value] of Object.entries({ ...want, 'app.kubernetes.io/part-of': 'carillon', 'app.kubernetes.io/managed-by': 'Helm' })) assert.equal(labels[label], value);
      assert.ok(labels['app.kubernetes.io/version'] && labels['helm.sh/chart']);
    }
  });

  test('a gateway has the time to drain, and a rollout has the time for every gateway', () => {
    const { spec } = helm.render('long-drain').get('Deployment', '-gateway');
    const drain = 1800, margin = 30, sleep = 15;
    assert.equal(spec.template.spec.terminationGracePeriodSeconds, sleep + drain + margin);
    assert.equal(spec.template.spec.containers[0].lifecycle.preStop.sleep.seconds, sleep);
    // Ten gateways, one at a time.
    assert.ok(spec.progressDeadlineSeconds >= 10 * (sleep + drain + margin), `${spec.progressDeadlineSeconds} s`);
    assert.equal(helm.render('long-drain').settings('gateway').gateway.drain.timeout, '1800s');

    const usual = objects.get('Deployment', '-gateway').spec;
    assert.equal(usual.template.spec.terminationGracePeriodSeconds, 5 + 30 + 10);
    assert.deepEqual(usual.strategy.rollingUpdate, { maxSurge: '25%', maxUnavailable: 0 });
    assert.equal(usual.minReadySeconds, 5);
    // 25 % of 40 are 10 at once: four waves.
    const many = helm.render([trial, { gateway: { replicas: 40, drain: { timeoutSeconds: 600 } } }].reduce((all, one) => ({ ...all, ...one })));
    assert.equal(many.get('Deployment', '-gateway').spec.progressDeadlineSeconds, 60 + 4 * (615 + 5 + 60));
    // As many as there can be, whoever decides it.
    const deadline = (component, values) => helm.render({ ...trial, ...values }).get('Deployment', `-${component}`).spec.progressDeadlineSeconds;
    const slow = { replicas: 3, drain: { timeoutSeconds: 600 } };
    for (const [who, values] of Object.entries({
      autoscaling: { gateway: { ...slow, autoscaling: { enabled: true, maxReplicas: 40 } } },
      keda: { gateway: { ...slow, keda: { enabled: true, maxReplicas: 40, triggers: [{ type: 'cron' }] } } },
      operator: { gateway: slow, pushCluster: { spec: { autoscaling: { gateways: { min: 3, max: 40, connections: 20000 } } } } },
      'operator, a fixed number': { gateway: slow, pushCluster: { spec: { gateways: { replicas: 40 } } } },
    })) assert.equal(deadline('gateway', values), 60 + 4 * (615 + 5 + 60), who);
    const dispatchers = { dispatcher: { strategy: { maxSurge: 1 } }, pushCluster: { spec: { autoscaling: { dispatchers: { min: 2, max: 16, lag: 5000 } } } } };
    assert.equal(deadline('dispatcher', dispatchers), 60 + 16 * (45 + 5 + 60));
    assert.equal(deadline('gateway', dispatchers), 600);
  });

  test('who scales says how many, and nobody else', () => {
    for (const component of components) assert.ok(objects.get('Deployment', `-${component}`).spec.replicas > 0);
    for (const [feature, kind] of [['autoscaling', 'HorizontalPodAutoscaler'], ['keda', 'ScaledObject']]) {
      const scaled = helm.render(feature);
      for (const component of ['gateway', 'dispatcher', 'ingest']) {
        assert.equal(scaled.get('Deployment', `-${component}`).spec.replicas, undefined, `${feature} ${component}`);
        assert.equal(scaled.get(kind, `-${component}`).spec.scaleTargetRef.name, `push-carillon-${component}`);
      }
      assert.equal(scaled.get('Deployment', '-operator').spec.replicas, 2);
    }
    const byOperator = helm.render({ ...trial, pushCluster: { spec: { autoscaling: { gateways: { min: 3, max: 9, connections: 20000 } } } } });
    assert.equal(byOperator.get('Deployment', '-gateway').spec.replicas, undefined);
    assert.equal(byOperator.get('Deployment', '-dispatcher').spec.replicas, 2);
    assert.equal(helm.render({ ...trial, ingest: { replicas: null } }).get('Deployment', '-ingest').spec.replicas, undefined);
    assert.equal(helm.render({ ...trial, dispatcher: { replicas: 0 } }).get('Deployment', '-dispatcher').spec.replicas, 0);
  });

  test('polling needs no affinity: gateways share a secret, know their own address, and may reach each other', () => {
    const secret = objects.get('Secret', '-forwarding');
    assert.ok(Buffer.from(secret.data.secret, 'base64').length >= 32);
    assert.equal(secret.metadata.annotations['helm.sh/resource-policy'], 'keep');
    const { env } = pod(objects, 'gateway').containers[0];
    const of = (name) => env.find((one) => one.name === name);
    assert.deepEqual(of('CARILLON_GATEWAY__FORWARDING__SECRET').valueFrom.secretKeyRef, { name: 'push-carillon-forwarding', key: 'secret' });
    assert.equal(of('POD_NAME').valueFrom.fieldRef.fieldPath, 'metadata.name');
    assert.equal(of('POD_IP').valueFrom.fieldRef.fieldPath, 'status.podIP');
    assert.equal(of('CARILLON_GATEWAY__ADDRESS').value, '$(POD_IP):3000');
    assert.ok(env.findIndex(({ name }) => name === 'POD_IP') < env.findIndex(({ name }) => name === 'CARILLON_GATEWAY__ADDRESS'), 'a variable only knows those before it');
    assert.equal(objects.get('Service', '-gateway').spec.sessionAffinity, 'None');
    const policy = objects.get('NetworkPolicy', '-gateway').spec;
    const gateways = { podSelector: { matchLabels: objects.get('Deployment', '-gateway').spec.selector.matchLabels } };
    for (const [rules, peers] of [[policy.ingress, 'from'], [policy.egress, 'to']]) {
      assert.ok(rules.some((rule) => rule.ports.some(({ port }) => port === 3000) && rule[peers]?.some((peer) => JSON.stringify(peer) === JSON.stringify(gateways))), peers);
    }

    const without = helm.render('long-drain');
    assert.ok(!without.of('Secret').some(({ metadata }) => metadata.name.endsWith('-forwarding')));
    assert.ok(!pod(without, 'gateway').containers[0].env.some(({ name }) => name.includes('FORWARDING')));
    const theirs = pod(helm.render('existing-secrets'), 'gateway').containers[0].env;
    assert.deepEqual(theirs.find(({ name }) => name === 'CARILLON_GATEWAY__FORWARDING__SECRET').valueFrom.secretKeyRef, { name: 'forwarding', key: 'secret' });
    assert.equal(pod(helm.render('ipv6'), 'gateway').containers[0].env.find(({ name }) => name === 'CARILLON_GATEWAY__ADDRESS').value, '[$(POD_IP)]:3000');
  });

  test('a change of settings rolls those that read them, and a change of policy nobody', () => {
    const sums = (values) => Object.fromEntries(helm.render(values).of('Deployment').map(({ metadata, spec }) => [metadata.name.split('-').at(-1), spec.template.metadata.annotations['checksum/settings']]));
    const changed = (values) => {
      const [before, now] = [sums(bare), sums(values)];
      return Object.keys(before).filter((name) => before[name] !== now[name]).sort();
    };
    assert.deepEqual(changed({ ...bare, settings: { gateway: { outbox: '2MiB' } } }), ['gateway']);
    assert.deepEqual(changed({ ...bare, settings: { dispatcher: { batch: 64 } } }), ['dispatcher']);
    assert.deepEqual(changed({ ...bare, settings: { ingest: { message: '32KiB' } } }), ['dispatcher', 'gateway', 'ingest']);
    assert.deepEqual(changed({ ...bare, settings: { log: { level: 'debug' } } }), ['dispatcher', 'gateway', 'ingest']);
    assert.deepEqual(changed({ ...bare, policy: { rooms: [{ match: 'lobby' }] } }), []);
    // The folder is mounted: a file that is mounted alone never changes.
    for (const component of ['gateway', 'dispatcher', 'ingest']) {
      const mount = pod(helm.render(bare), component).containers[0].volumeMounts.find(({ name }) => name === 'policy');
      assert.equal(mount.subPath, undefined);
    }
  });

  test('the policy comes from a file without the operator, and from custom resources with it', () => {
    const file = helm.render(bare);
    assert.equal(file.settings('gateway').policy.file, '/etc/carillon/policy/policy.yaml');
    const policy = YAML.parse(file.get('ConfigMap', '-policy').data['policy.yaml']);
    const key = Buffer.from(file.get('Secret', '-producer').data.key, 'base64').toString();
    const sum = spawnSync('sha256sum', { input: key, encoding: 'utf8' }).stdout.split(' ')[0];
    assert.deepEqual(policy, { anonymous: { sessions: true }, producers: [{ name: 'default', key_sha256: sum, rooms: ['*'] }] });
    for (const kind of ['PushCluster', 'PushRoom', 'PushProducer']) assert.deepEqual(file.of(kind), [], `nobody would read a ${kind}`);

    for (const component of ['gateway', 'dispatcher', 'ingest']) assert.equal(objects.settings(component).policy, undefined);
    assert.ok(!objects.of('ConfigMap').some(({ metadata }) => metadata.name.endsWith('-policy')));
    assert.deepEqual(objects.get('PushProducer').spec, { rooms: ['*'] });
    // The operator makes the key's Secret, under this name.
    assert.ok(objects.text.includes('name: push-carillon-default-key, key: key'));
    // The kinds come with this release, so Helm can't look them up beforehand.
    const first = objects.get('PushCluster');
    assert.equal(first.metadata.annotations['helm.sh/hook'], 'post-install,post-upgrade');
    const later = helm.render('operator-namespaces', ['--api-versions', 'carillon.dev/v1alpha1/PushCluster']).get('PushCluster');
    // A rollback to the revision before must not delete it.
    assert.deepEqual(later.metadata.annotations, { 'helm.sh/resource-policy': 'keep' });
    assert.deepEqual(later.spec, { policy: { anonymous: { sessions: true } }, gateways: { drainRate: '100/s', rebalance: { rate: '10/s', within: 15 } } });
  });

  test('nothing is denied and allowed by accident: one policy denies all, one for each component says what is needed', () => {
    const deny = objects.get('NetworkPolicy', '-deny').spec;
    assert.deepEqual(deny.policyTypes, ['Ingress', 'Egress']);
    assert.ok(!deny.ingress && !deny.egress);
    for (const { labels, name } of objects.pods()) {
      const chosen = Object.entries(deny.podSelector.matchLabels).every(([label, value]) => labels[label] === value);
      assert.ok(chosen, `${name} is covered`);
    }
    const ports = (policy) => (policy.egress ?? []).flatMap(({ ports }) => ports.map(({ port }) => port)).sort((a, b) => a - b);
    assert.deepEqual(ports(objects.get('NetworkPolicy', '-dispatcher').spec), [53, 53, 6379]);
    assert.deepEqual(ports(objects.get('NetworkPolicy', '-operator').spec), [53, 53, 443, 6379, 6443]);
    assert.deepEqual(ports(objects.get('NetworkPolicy', '-redis').spec), []);
    assert.ok(ports(helm.render('redis-tls').get('NetworkPolicy', '-ingest').spec).includes(6380));
    assert.ok(ports(helm.render('existing-secrets').get('NetworkPolicy', '-gateway').spec).includes(443), 'the issuer of tokens');
    assert.ok(ports(helm.render('monitoring').get('NetworkPolicy', '-gateway').spec).includes(4317), 'the collector');
    // Each rule says why it is there.
    const text = objects.text.split('\n---\n').filter((part) => part.includes('kind: NetworkPolicy')).join('\n').split('\n');
    const rules = text.map((line, place) => [line, text[place - 1]]).filter(([line]) => /^ {4}- ports:/.test(line));
    assert.ok(rules.length > 12);
    for (const [line, above] of rules) assert.match(above, /^ {4}# /, line);
  });

  test('the operator may do what it needs, and each rule says why', () => {
    const rules = (object) => object.rules.flatMap(({ apiGroups, resources, verbs }) => resources.map((resource) => `${apiGroups} ${resource}: ${[...verbs].sort()}`)).sort();
    const role = rules(objects.get('Role', '-operator'));
    assert.ok(!objects.of('ClusterRole').length && !objects.of('ClusterRoleBinding').length, 'nothing in the whole cluster');
    assert.ok(role.includes('apps deployments: get,list,watch') && role.includes('apps deployments/scale: get,patch'));
    assert.ok(role.includes(' pods: get,list,patch,watch') && role.includes('coordination.k8s.io leases: create,get,patch,update'));
    assert.ok(!role.some((rule) => rule.includes('*')), 'no wildcards');
    for (const never of ['pods/exec', 'serviceaccounts', 'roles', 'configmaps', 'nodes', 'namespaces']) assert.ok(!role.some((rule) => rule.includes(` ${never}:`)), never);
    const lines = objects.text.split('\n');
    lines.forEach((line, place) => { if (/^ {2}- apiGroups:/.test(line)) assert.match(lines[place - 1], /^ {2}# /, line); });

    const named = helm.render('operator-namespaces');
    assert.deepEqual(named.settings('operator').operator.watch, ['tests', 'shop', 'billing']);
    assert.ok(!named.of('ClusterRoleBinding').length);
    assert.deepEqual(named.of('RoleBinding').map(({ metadata }) => metadata.namespace).sort(), ['billing', 'shop', 'tests']);
    const wide = rules(helm.render('operator-cluster-wide').get('ClusterRole'));
    assert.ok(!wide.some((rule) => / (pods|deployments|leases)/.test(rule)), 'other namespaces: only objects, keys and events');
  });

  test('routes let connections live', () => {
    const routes = helm.render('gateway-api');
    for (const { spec } of routes.of('HTTPRoute')) assert.deepEqual(spec.rules[0].timeouts, { request: '0s', backendRequest: '0s' });
    assert.equal(routes.get('GRPCRoute').spec.rules[0].backendRefs[0].port, 8081);
    const { annotations } = helm.render('ingress').get('Ingress', '-gateway').metadata;
    assert.equal(annotations['nginx.ingress.kubernetes.io/proxy-read-timeout'], '3600');
    assert.equal(annotations['cert-manager.io/cluster-issuer'], 'letsencrypt');
    const { ports } = objects.get('Service', '-ingest').spec;
    assert.deepEqual(ports.map(({ name, appProtocol }) => [name, appProtocol]), [['http', 'http'], ['grpc', 'kubernetes.io/h2c']]);
  });

  test('the trial Redis suits Carillon, and its password is in no file', () => {
    const { data } = objects.get('ConfigMap', 'carillon-redis');
    for (const line of ['maxmemory-policy noeviction', 'appendonly yes', 'stream-node-max-bytes 1024']) assert.ok(data['redis.conf'].includes(line), line);
    const password = Buffer.from(objects.get('Secret', '-redis').data.password, 'base64').toString();
    assert.ok(password.length >= 32);
    assert.equal(objects.text.split(password).length, 1);
    assert.match(objects.text, /NOT FOR PRODUCTION/);
    const own = helm.render('redis-tls');
    assert.ok(!own.text.includes('carillon:secret'), 'a URL with a password is in a Secret only');
    assert.equal(Buffer.from(own.get('Secret', '-redis').data.url, 'base64').toString(), 'rediss://carillon:secret@redis.example.com:6380');
    assert.equal(own.settings('ingest').redis.tls.ca_file, '/etc/carillon/redis-tls/ca.crt');
  });

  test('what a pod says wins over what all pods say', () => {
    const { spec } = helm.render('scheduling').get('Deployment', '-gateway').spec.template;
    assert.equal(spec.priorityClassName, 'push-clients');
    assert.deepEqual(spec.nodeSelector, { 'kubernetes.io/os': 'linux', pool: 'edge' });
    assert.equal(spec.topologySpreadConstraints[0].topologyKey, 'topology.kubernetes.io/zone');
    assert.match(spec.containers[0].image, /^registry.example.com\/carillon@sha256:0{64}$/);
    const dispatcher = helm.render('scheduling').get('Deployment', '-dispatcher').spec.template.spec;
    assert.equal(dispatcher.priorityClassName, 'push');
    assert.equal(dispatcher.topologySpreadConstraints, undefined);
    assert.equal(dispatcher.serviceAccountName, 'shared');
    assert.equal(pod(objects, 'gateway').topologySpreadConstraints[0].topologyKey, 'kubernetes.io/hostname');
  });

  test('everything that a pod may be given is given to every pod', () => {
    const asked = helm.render('scheduling');
    const deployments = asked.of('Deployment').map(({ spec }) => spec.template);
    assert.equal(deployments.length, components.length);
    for (const { metadata, spec } of deployments) {
      const [container] = spec.containers;
      const { name } = container;
      assert.ok(container.env.some((one) => one.name === 'RUST_BACKTRACE' && one.value === '1'), `${name}: extraEnv`);
      assert.deepEqual(container.envFrom, [{ configMapRef: { name: 'more', optional: true } }], name);
      assert.deepEqual(spec.volumes.find((one) => one.name === 'scratch'), { name: 'scratch', emptyDir: {} }, name);
      assert.deepEqual(container.volumeMounts.find((one) => one.name === 'scratch'), { name: 'scratch', mountPath: '/scratch' }, name);
      assert.equal(metadata.labels.cost, 'push', name);
      assert.equal(metadata.annotations['sidecar.istio.io/inject'], 'false', name);
      assert.equal(spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key, 'arch', name);
      assert.deepEqual(spec.tolerations, [{ key: 'push', operator: 'Exists', effect: 'NoSchedule' }], name);
      assert.equal(spec.nodeSelector['kubernetes.io/os'], 'linux', name);
      assert.equal(spec.priorityClassName, name === 'gateway' ? 'push-clients' : 'push');
      assert.equal(spec.runtimeClassName, 'gvisor', name);
      assert.equal(container.imagePullPolicy, 'Always', name);
    }
    for (const { kind, metadata } of asked.all) {
      assert.equal(metadata.labels.team, 'push', `${kind} ${metadata.name}: commonLabels`);
      assert.equal(metadata.annotations?.owner, 'push@example.com', `${kind} ${metadata.name}: commonAnnotations`);
    }
    // All pods: those of Redis and of the test are of images that somebody has to fetch, too.
    const pulled = helm.render({ ...trial, image: { pullSecrets: [{ name: 'registry' }] } }).pods();
    assert.deepEqual(pulled.map(({ name }) => name.replace('push-carillon-', '')).sort(), ['Deployment dispatcher', 'Deployment gateway', 'Deployment ingest', 'Deployment operator', 'Pod test', 'StatefulSet redis']);
    for (const { name, spec } of pulled) assert.deepEqual(spec.imagePullSecrets, [{ name: 'registry' }], name);
    // What nobody asked for, nobody gets.
    for (const { name, spec } of objects.pods()) {
      for (const field of ['imagePullSecrets', 'affinity', 'priorityClassName', 'runtimeClassName', 'tolerations', 'nodeSelector']) assert.equal(spec[field], undefined, `${name}: ${field}`);
    }
  });

  test('pods of a component spread over nodes, and a few at a time may be taken from a node', () => {
    for (const component of components) {
      const { selector } = objects.get('Deployment', `-${component}`).spec;
      assert.deepEqual(pod(objects, component).topologySpreadConstraints, [
        { maxSkew: 1, topologyKey: 'kubernetes.io/hostname', whenUnsatisfiable: 'ScheduleAnyway', labelSelector: selector, matchLabelKeys: ['pod-template-hash'] },
      ], component);
      assert.deepEqual(objects.get('PodDisruptionBudget', `-${component}`).spec, { maxUnavailable: 1, unhealthyPodEvictionPolicy: 'AlwaysAllow', selector }, component);
    }
    const { spec } = helm.render('scheduling').get('PodDisruptionBudget', '-gateway');
    assert.deepEqual([spec.minAvailable, spec.maxUnavailable], ['75%', undefined]);
    assert.deepEqual(helm.render('bare').of('PodDisruptionBudget'), []);
  });

  test('metrics of every pod are found, by pods or by headless Services', () => {
    const chosen = (labels, { matchLabels, matchExpressions = [] }) => Object.entries(matchLabels).every(([label, value]) => labels[label] === value)
      && matchExpressions.every(({ key, operator, values }) => operator === 'In' && values.includes(labels[key]));
    const byPod = helm.render('monitoring');
    const pods = byPod.get('PodMonitor');
    assert.equal(pods.metadata.labels.release, 'prometheus');
    assert.deepEqual(byPod.of('ServiceMonitor'), []);
    const [endpoint] = pods.spec.podMetricsEndpoints;
    assert.deepEqual([endpoint.port, endpoint.path, endpoint.interval, endpoint.filterRunning], ['admin', '/metrics', '15s', false]);
    assert.deepEqual(endpoint.metricRelabelings, [{ action: 'drop', sourceLabels: ['__name__'], regex: 'process_.*' }]);
    for (const component of components) {
      const { labels } = byPod.get('Deployment', `-${component}`).spec.template.metadata;
      assert.ok(chosen(labels, pods.spec.selector), component);
      assert.ok(pod(byPod, component).containers[0].ports.some(({ name }) => name === endpoint.port), component);
    }

    const byService = helm.render('service-monitor');
    const monitor = byService.get('ServiceMonitor');
    assert.equal(monitor.metadata.labels.release, 'prometheus');
    assert.deepEqual(byService.of('PodMonitor'), []);
    assert.deepEqual([monitor.spec.endpoints[0].port, monitor.spec.endpoints[0].path, monitor.spec.endpoints[0].interval], ['metrics', '/metrics', '15s']);
    for (const component of components) {
      const { metadata, spec } = byService.get('Service', `-${component}-metrics`);
      assert.ok(chosen(metadata.labels, monitor.spec.selector), component);
      assert.deepEqual([spec.clusterIP, spec.publishNotReadyAddresses], ['None', true], component);
      assert.deepEqual(spec.ports, [{ name: 'metrics', port: 9090, targetPort: 'admin', appProtocol: 'http' }], component);
      assert.deepEqual(spec.selector, byService.get('Deployment', `-${component}`).spec.selector.matchLabels, component);
    }
    // No other Service is read, and nothing twice.
    assert.equal(byService.of('Service').filter(({ metadata }) => chosen(metadata.labels, monitor.spec.selector)).length, components.length);
    assert.deepEqual(helm.render('bare').of('Service').map(({ metadata }) => metadata.name).filter((name) => name.endsWith('-metrics')), []);
    for (const kind of ['PodMonitor', 'ServiceMonitor', 'PrometheusRule']) assert.deepEqual(objects.of(kind), [], kind);
  });

  test('the test publishes and receives one message of its own, and leaves nothing when it succeeds', () => {
    const { metadata, spec } = objects.get('Pod');
    assert.deepEqual([metadata.annotations['helm.sh/hook'], metadata.annotations['helm.sh/hook-delete-policy']], ['test', 'before-hook-creation,hook-succeeded']);
    const [publish, receive] = [spec.initContainers[0], spec.containers[0]].map(({ args }) => args);
    const event = (args) => args[args.indexOf('--event') + 1];
    assert.deepEqual([publish[0], receive[0]], ['push', 'tail']);
    assert.equal(event(publish), event(receive));
    assert.ok(publish.includes('http://push-carillon-ingest:8080') && receive.includes('http://push-carillon-gateway:3000'));
    const moved = helm.render('load-balancer').get('Pod').spec.containers[0].args;
    assert.ok(moved.includes('http://push-carillon-gateway:443'));
  });

  test('definitions, dashboards and rules are those files, whichever there are', () => {
    const files = (place, end) => (fs.existsSync(path.join(chart, place)) ? fs.readdirSync(path.join(chart, place)).filter((name) => name.endsWith(end)) : []);
    const definitions = objects.of('CustomResourceDefinition');
    assert.equal(definitions.length, files('files/crds', '.yaml').length);
    for (const { metadata } of definitions) assert.equal(metadata.annotations['helm.sh/resource-policy'], 'keep');
    for (const { metadata } of helm.render({ ...trial, crds: { keep: false } }).of('CustomResourceDefinition')) assert.equal(metadata.annotations?.['helm.sh/resource-policy'], undefined);
    assert.equal(helm.render('operator-cluster-wide').of('CustomResourceDefinition').length, 0);
    const seen = helm.render('monitoring');
    const dashboards = seen.of('ConfigMap').filter(({ metadata }) => metadata.labels.grafana_dashboard === '1');
    assert.equal(dashboards.length, files('dashboards', '.json').length);
    for (const { data } of dashboards) {
      const [[name, text]] = Object.entries(data);
      assert.deepEqual(JSON.parse(text), JSON.parse(fs.readFileSync(path.join(chart, 'dashboards', name), 'utf8')));
    }
    const groups = files('rules', '.yaml').flatMap((name) => YAML.parse(fs.readFileSync(path.join(chart, 'rules', name), 'utf8')).groups);
    assert.deepEqual(seen.get('PrometheusRule').spec.groups, groups);
  });
});

describe('what a person is told', { skip }, () => {
  const notes = (values) => {
    const printed = helm.run(['install', 'push', chart, '--namespace', 'tests', '--dry-run=client', '--values', '-'], JSON.stringify(values));
    assert.equal(printed.status, 0, printed.stderr);
    return printed.stdout.slice(printed.stdout.indexOf('NOTES:'));
  };

  test('the exact command for this release', () => {
    const usual = notes(bare);
    assert.match(usual, /kubectl -n tests port-forward service\/push-carillon-ingest 8080/);
    assert.match(usual, /get secret push-carillon-producer/);
    // What goes into the background is waited for before it is used, and leaves the terminal alone.
    assert.equal(usual.match(/port-forward .* >\/dev\/null &\n +(\w+)=.*\n +curl .*--retry-connrefused "\$\1"\n/g).length, 2);
    assert.match(usual, /curl -X POST "\$INGEST\/v1\/messages".*authorization: Bearer \$KEY/);
    assert.match(usual, /NOT FOR PRODUCTION/);
    assert.ok(!usual.includes("transports: ['websocket']"));
    const open = notes({ ...bare, producer: { create: false }, gateway: { polling: false, service: { type: 'NodePort' } }, ingest: { ingress: { enabled: true, hosts: [{ host: 'ingest.example.com' }], tls: [{ hosts: ['ingest.example.com'] }] } } });
    assert.match(open, /INGEST=https:\/\/ingest.example.com/);
    assert.ok(!open.includes('KEY'));
    assert.match(open, /transports: \['websocket'\]/);
    assert.match(open, /nodePort/);
    assert.match(notes({ ...bare, dispatcher: { replicas: 0 } }), /ATTENTION: .*dispatcher/);
  });

  test('what stays when the release is removed, by name', () => {
    const stays = (values) => {
      const printed = notes(values);
      return [...printed.slice(printed.indexOf('these stay:')).matchAll(/^ +- (\w+ [\w.-]+)[:,]/gm)].map(([, name]) => name).sort();
    };
    const definitions = ['pushclusters', 'pushproducers', 'pushrooms'].map((plural) => `CustomResourceDefinition ${plural}.carillon.dev`);
    const objects = ['PushCluster carillon', 'PushProducer push-carillon-default'];
    assert.deepEqual(stays(trial), [...definitions, 'Lease push-carillon-operator', ...objects, 'Secret push-carillon-default-key', 'Secret push-carillon-forwarding']);
    assert.deepEqual(stays(bare), [...definitions, 'Secret push-carillon-forwarding', 'Secret push-carillon-producer']);
    assert.deepEqual(stays({ ...trial, crds: { keep: false }, gateway: { polling: false } }), ['Lease push-carillon-operator']);
    assert.ok(objects.every((name) => stays({ ...trial, crds: { install: false } }).includes(name)));
    const volume = (persistence) => stays({ redis: { embedded: { enabled: true, persistence: { enabled: true, ...persistence } } }, crds: { install: false } });
    assert.ok(volume({}).includes('PersistentVolumeClaim data-push-carillon-redis-0'));
    assert.ok(volume({ existingClaim: 'mine' }).includes('PersistentVolumeClaim mine'));
    // What Helm is told to keep is said, and nothing else is said of what it made.
    for (const values of [trial, bare]) {
      const known = ['PushCluster', 'PushProducer'].flatMap((kind) => ['--api-versions', `carillon.dev/v1alpha1/${kind}`]);
      const kept = helm.render(values, known).all.filter(({ metadata }) => metadata.annotations?.['helm.sh/resource-policy'] === 'keep').map(({ kind, metadata }) => `${kind} ${metadata.name}`);
      // These two are the operator's, not Helm's.
      assert.deepEqual(stays(values).filter((name) => !/^Lease |default-key$/.test(name)), kept.sort());
    }
  });

  const wrong = [
    ['no Redis', {}, /Where is Redis\? Set redis\.url/],
    ['two Redis', { ...trial, redis: { url: 'redis://a', embedded: { enabled: true } } }, /redis\.url and redis\.embedded\.enabled are both set/],
    ['a URL that is none', { redis: { url: 'http://a' } }, /redis\.url must look like redis:\/\/host:6379/],
    ['nodes of a single server', { redis: { url: 'redis://a', nodes: ['b:1'] } }, /only redis\.mode sentinel or cluster uses/],
    ['TLS without TLS', { redis: { url: 'redis://a', tls: { existingSecret: { name: 'ca' } } } }, /write redis\.url as rediss/],
    ['replicas that are not there', { redis: { embedded: { enabled: true }, waitReplicas: 1 } }, /nothing would ever be accepted/],
    ['a duration', { redis: { url: 'redis://a', timeout: 'soon' } }, /redis\.timeout is "soon", which is no duration; write it like 2s/],
    ['a policy beside the operator', { ...trial, policy: { rooms: [] , anonymous: {} } }, /policy is set, but with the operator/],
    ['a PushCluster without operator', { ...bare, pushCluster: { spec: { gateways: { drainRate: '9/s' } } } }, /nobody would read it/],
    ['two scalers', { ...trial, gateway: { autoscaling: { enabled: true }, keda: { enabled: true, triggers: [{ type: 'cron' }] } } }, /work against each other\. Keep one/],
    ['a scaler with nothing to go by', { ...trial, ingest: { keda: { enabled: true } } }, /nothing to go by; set ingest\.keda\.triggers/],
    ['a least above the most', { ...trial, ingest: { autoscaling: { enabled: true, minReplicas: 9, maxReplicas: 3 } } }, /minReplicas is 9, above maxReplicas, which is 3/],
    ['more dispatchers than partitions', { ...trial, dispatcher: { replicas: 65 } }, /there are 64 partitions .* would stand idle/],
    ['a rollout that can replace nothing', { ...trial, pods: { strategy: { maxSurge: 0 } } }, /a rollout could replace nothing/],
    ['a key without its sum', { ...bare, producer: { existingSecret: 'mine' } }, /printf %s "\$KEY" \| sha256sum/],
    ['a key as its sum', { ...bare, producer: { existingSecret: 'mine', keySha256: 'my key' } }, /never the key itself/],
    ['a producer twice', { ...bare, policy: { producers: [{ name: 'default', key_sha256: 'a', rooms: [] }] } }, /Rename one/],
    ['every page and cookies', { ...trial, settings: { gateway: { origins: ['*'] } }, identity: { cookieExistingSecret: { name: 'c' } } }, /List the origins/],
    ['an Ingress for nobody', { ...trial, gateway: { ingress: { enabled: true } } }, /gateway\.ingress has no hosts/],
    ['a route of no Gateway', { ...trial, ingest: { grpcRoute: { enabled: true } } }, /belongs to no Gateway/],
    ['everything counted twice', { ...trial, metrics: { podMonitor: { enabled: true }, serviceMonitor: { enabled: true } } }, /counted twice/],
    ['a variable that is the chart\'s', { ...trial, pods: { extraEnv: [{ name: 'POD_NAME', value: 'x' }] } }, /extraEnv sets POD_NAME, which the chart sets itself/],
    ['a digest', { ...trial, image: { digest: 'latest' } }, /image\.digest must be sha256/],
    ['more sessions than memory', { ...trial, settings: { gateway: { sessions: 50000 } } }, /gateway\.resources\.limits\.memory is 4Gi, but at their limits 50000 sessions in 200 rooms each, 20000 connections handed on .* take up to \d{4}Mi\. Raise it/],
    ['less memory than sessions', { ...trial, gateway: { resources: { limits: { memory: '3Gi' } } } }, /limits\.memory is 3Gi/],
    ['outboxes larger than memory', { ...trial, settings: { gateway: { outboxes: '4GiB' } } }, /outboxes or tails/],
    ['rooms in excess', { ...trial, settings: { gateway: { rooms_per_session: 1000 } } }, /in 1000 rooms each/],
    // The schema's part.
    ['a name that is none', { ...trial, gatway: {} }, /additional properties 'gatway' not allowed/],
    ['a setting that is none', { ...trial, settings: { gateway: { outbx: '1MiB' } } }, /settings\/gateway'?: additional properties 'outbx' not allowed/],
    ['a setting with a value of its own', { ...trial, settings: { gateway: { drain: { timeout: '1m' } } } }, /additional properties 'drain' not allowed/],
    ['a secret among settings', { ...trial, settings: { identity: { hs256_secret: 'x' } } }, /additional properties 'hs256_secret' not allowed/],
    ['a setting out of range', { ...trial, settings: { broker: { partitions: 5000 } } }, /settings\/broker\/partitions'?: maximum: got 5,?000, want 1,?024/],
    ['a word that is none', { redis: { url: 'redis://a', mode: 'ha' } }, /redis\/mode'?: value must be one of 'standalone', 'sentinel', 'cluster'/],
    ['text for a number', { ...trial, gateway: { replicas: 'three' } }, /gateway\/replicas'?: got string, want .*integer/],
    ['a rule of a policy', { ...bare, policy: { rooms: [{ match: 'a', join: 'everybody' }] } }, /policy\/rooms\/0\/join'?: value must be one of/],
  ];
  for (const [what, values, sentence] of wrong) {
    test(what, () => assert.match(helm.refusal(values), sentence));
  }

  test('memory that holds what the settings allow is fine, however it is written', () => {
    for (const gateway of [
      { sessions: 8000, outboxes: '512 MiB' }, { sessions: 30000, rooms_per_session: 20 }, { sessions: 1000, outboxes: 1610612736 }, { outboxes: '300MB', tails: '1MiB' },
    ]) helm.render({ ...trial, settings: { gateway } });
    for (const memory of ['4Gi', '4100Mi', '4300M', 4294967296, null]) helm.render({ ...trial, gateway: { resources: { limits: { memory } } } });
    const [sessions, rooms, outboxes, tails, forwarding] = ['sessions', 'rooms_per_session', 'outboxes', 'tails', 'forwarding.requests']
      .map((name) => new RegExp(`^\\| \`gateway\\.${name}\` \\| \`([^\`]+)\``, 'm').exec(fs.readFileSync(path.resolve(chart, '../../docs/settings.md'), 'utf8'))[1]);
    // What the chart takes for defaults are the service's own, written out.
    helm.render({ ...trial, settings: { gateway: { sessions: Number(sessions), rooms_per_session: Number(rooms), outboxes, tails, forwarding: { requests: Number(forwarding) } } } });
    assert.deepEqual([sessions, rooms, outboxes, tails, forwarding], ['20000', '200', '256MiB', '64MiB', '20000']);
  });

  test('the operator and an autoscaler do not scale the same', () => {
    const values = { ...trial, pushCluster: { spec: { gateways: { replicas: 9 } } }, gateway: { autoscaling: { enabled: true } } };
    assert.match(helm.refusal(values), /pushCluster\.spec lets the operator scale gateways, and so does gateway\.autoscaling/);
  });

  test('all mistakes at once', () => {
    const told = helm.refusal({ gateway: { ingress: { enabled: true } }, dispatcher: { replicas: 100 } });
    for (const sentence of [/Where is Redis/, /no hosts/, /would stand idle/]) assert.match(told, sentence);
  });
});
