// The cluster as kubectl shows it, and ways past Kubernetes' back.
import { execFile, spawn, spawnSync } from 'node:child_process';
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

/** A pod's admin port. The node reaches pods by their addresses. */
export async function admin(pod, path) {
  const answer = await fetch(`http://${pod.status.podIP}:9090${path}`, { signal: AbortSignal.timeout(5_000) });
  return { ok: answer.ok, text: await answer.text() };
}

/** A metric of a pod: the sum over its labels. */
export async function metric(pod, name) {
  const { text } = await admin(pod, '/metrics');
  const lines = text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

/** A program beside the test, ended with it. */
export function beside(program, args) {
  const child = spawn(program, args, { stdio: 'ignore' });
  return { end: () => child.kill() };
}
