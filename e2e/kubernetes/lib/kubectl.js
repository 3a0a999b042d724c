// The cluster as kubectl shows it, and ways past Kubernetes' back.
import { execFile, spawn, spawnSync } from 'node:child_process';
import { after } from 'node:test';
import { promisify } from 'node:util';
import { until } from '../../lib/until.js';

/** Runs a program and gives what it printed; its complaint is the error. */
export function run(program, args, { input, environment = {} } = {}) {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    input, encoding: 'utf8', maxBuffer: 1 << 28, env: { ...process.env, ...environment },
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr || stdout}`);
  return stdout;
}

export class Kubectl {
  /** @param {string} namespace */
  constructor(namespace) {
    this.namespace = namespace;
  }

  run(...args) {
    return run('kubectl', ['--namespace', this.namespace, ...args]);
  }

  json(...args) {
    return JSON.parse(this.run(...args, '--output', 'json'));
  }

  /** As `json`, while clients of this process go on. */
  async read(...args) {
    const { stdout } = await promisify(execFile)('kubectl', ['--namespace', this.namespace, ...args, '--output', 'json'], { maxBuffer: 1 << 28 });
    return JSON.parse(stdout);
  }

  /** Server-side, as a person with `kubectl apply` would. */
  apply(...objects) {
    const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
    return run('kubectl', ['--namespace', this.namespace, 'apply', '--filename', '-'], { input });
  }

  /** What the API server says against an object. */
  refusal(object) {
    try {
      this.apply(object);
    } catch (error) {
      return error.message;
    }
    throw new Error(`this was taken: ${JSON.stringify(object)}`);
  }

  /** The pods of a component that are not on their way out. */
  pods(component) {
    const { items } = this.json('get', 'pods', '--selector', `app.kubernetes.io/component=${component}`);
    return items.filter((pod) => !pod.metadata.deletionTimestamp);
  }

  /** As `pods`, with those on their way out, while clients of this process go on. */
  async everyPod(component) {
    const selector = encodeURIComponent(`app.kubernetes.io/component=${component}`);
    const answer = await ask(`/api/v1/namespaces/${this.namespace}/pods?labelSelector=${selector}`);
    if (!answer.ok) throw new Error(await answer.text());
    return (await answer.json()).items;
  }

  ready(component) {
    return this.pods(component).filter((pod) => pod.status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'));
  }

  async rollout(component, name = `carillon-${component}`) {
    await until(`${component} is rolled out`, async () => {
      const { metadata, spec, status } = await this.read('get', 'deployment', name);
      const { replicas = 0, updatedReplicas = 0, readyReplicas = 0, observedGeneration } = status;
      return observedGeneration >= metadata.generation
        && [replicas, updatedReplicas, readyReplicas].every((count) => count === spec.replicas);
    }, 300_000);
  }

  /** Whether the operator's account may do something. */
  may(account, ...what) {
    const asked = spawnSync('kubectl', ['--namespace', this.namespace, 'auth', 'can-i', '--as', `system:serviceaccount:${this.namespace}:${account}`, ...what], { encoding: 'utf8' });
    return asked.stdout.trim() === 'yes';
  }
}

/** `kubectl proxy`, once it is asked for: the API server reaches pods wherever this machine is. */
let proxy;
after(async () => (await proxy)?.child.kill());

function startProxy() {
  const child = spawn('kubectl', ['proxy', '--port=0'], { stdio: ['ignore', 'pipe', 'ignore'] });
  // However this process ends, it must not stay behind.
  process.on('exit', () => child.kill());
  return new Promise((resolve, reject) => {
    let said = '';
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`kubectl proxy ended with ${code}: ${said}`)));
    child.stdout.on('data', (text) => {
      said += text;
      const [address] = said.match(/127\.0\.0\.1:\d+/) ?? [];
      if (address) resolve({ child, url: `http://${address}` });
    });
  });
}

/** Asks the API server for a path of its own; costs no process, and this one's clients go on meanwhile. */
async function ask(path, patience = 10_000) {
  const { url } = await (proxy ??= startProxy());
  return fetch(`${url}${path}`, { signal: AbortSignal.timeout(patience) });
}

/** A pod's admin port, as the API server reaches it; it may take so many milliseconds. */
export async function admin({ metadata }, path, patience) {
  const answer = await ask(`/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}:9090/proxy${path}`, patience);
  return { ok: answer.ok, text: await answer.text() };
}

/** Sums of a metric over those of its labels that contain a text. */
const sum = (text, name, label) => text.split('\n')
  .filter((line) => (line.startsWith(`${name} `) || line.startsWith(`${name}{`)) && line.includes(label))
  .reduce((all, line) => all + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);

/** What a pod tells of itself now: a question for a metric's sum over its labels, or over those with a text in them. */
export async function metrics(pod, patience) {
  const { ok, text } = await admin(pod, '/metrics', patience);
  if (!ok) throw new Error(`no metrics of ${pod.metadata.name}: ${text}`);
  return (name, label = '') => sum(text, name, label);
}

/** A metric of a pod: the sum over its labels. */
export async function metric(pod, name) {
  return (await metrics(pod))(name);
}

/** A program beside the test, ended with it. */
export function beside(program, args) {
  const child = spawn(program, args, { stdio: 'ignore' });
  return { end: () => child.kill() };
}
