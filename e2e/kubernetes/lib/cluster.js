// A namespace of a real cluster, and what a person types at it.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { until } from '../../lib/until.js';
import { guard } from './hygiene.js';

/** Runs kubectl; never throws. */
export function kubectl(args, input) {
  const done = spawnSync('kubectl', args, { encoding: 'utf8', input, maxBuffer: 64 << 20 });
  return { ok: done.status === 0, out: done.stdout, err: done.stderr };
}

/** Runs kubectl and gives what it prints. */
export function must(args, input) {
  const done = kubectl(args, input);
  if (!done.ok) throw new Error(`kubectl ${args.join(' ')}\n${done.err}`);
  return done.out;
}

const GROUP = 'carillon.dev/v1alpha1';

/** A namespace that is deleted when the suite is over. */
export class Namespace {
  constructor(prefix) {
    this.name = `${prefix}-${randomBytes(3).toString('hex')}`;
    must(['create', 'namespace', this.name]);
    guard(this.name);
  }

  delete() {
    kubectl(['delete', 'namespace', this.name, '--wait=false']);
  }

  object(kind, name, spec, { apiVersion = GROUP, annotations, labels } = {}) {
    return { apiVersion, kind, metadata: { name, namespace: this.name, annotations, labels }, spec };
  }

  /** Applies an object; the answer says what the API server made of it. */
  try(kind, name, spec, more) {
    return kubectl(['apply', '-f', '-'], JSON.stringify(this.object(kind, name, spec, more)));
  }

  apply(kind, name, spec, more) {
    return must(['apply', '-f', '-'], JSON.stringify(this.object(kind, name, spec, more)));
  }

  run(...args) {
    return must(['--namespace', this.name, ...args]);
  }

  get(kind, name) {
    const done = kubectl(['--namespace', this.name, 'get', kind, name, '--output', 'json']);
    if (done.ok) return JSON.parse(done.out);
    if (/NotFound/.test(done.err)) return undefined;
    throw new Error(done.err);
  }

  /** The conditions of an object by their type, as far as they are made of its present generation. */
  conditions(kind, name) {
    const object = this.get(kind, name);
    const conditions = object?.status?.conditions ?? [];
    return Object.fromEntries(conditions
      .filter((condition) => condition.observedGeneration === object.metadata.generation)
      .map((condition) => [condition.type, condition]));
  }

  /** Waits until a condition has a status (and a reason, if said), and gives it. */
  async condition(kind, name, type, status, { reason, within } = {}) {
    let last;
    try {
      return await until(`${kind} ${name}: ${type} is ${status} ${reason ?? ''}`, () => {
        last = this.conditions(kind, name)[type];
        return last?.status === status && (!reason || last.reason === reason) && last;
      }, within);
    } catch (error) {
      throw new Error(`${error.message}; last: ${JSON.stringify(last)}`, { cause: error });
    }
  }

  programmed(kind, name, options) {
    return this.condition(kind, name, 'Programmed', 'True', options);
  }

  /** Events of an object: their reasons and notes. */
  events(name) {
    const list = JSON.parse(this.run('get', 'events.events.k8s.io', '--output', 'json'));
    return list.items
      .filter((event) => event.regarding?.name === name)
      .map(({ reason, note, type }) => ({ reason, note, type }));
  }
}
