// The definitions of the three kinds, as the binary prints them.
import { execFileSync } from 'node:child_process';
import { kubectl, must } from './cluster.js';

const NAMES = ['pushclusters', 'pushrooms', 'pushproducers'].map((plural) => `${plural}.carillon.dev`);

/** Whether the API server knows the kinds. */
export const known = () => kubectl(['get', 'crd', ...NAMES]).ok;

/** Makes the kinds known. */
export function define() {
  const text = execFileSync(process.env.E2E_BINARY, ['operator', 'crds'], { encoding: 'utf8' });
  must(['apply', '--server-side', '--force-conflicts', '-f', '-'], text);
  must(['wait', '--for=condition=Established', ...NAMES.map((name) => `crd/${name}`)]);
}

/** Takes the kinds away again. */
export function undefine() {
  kubectl(['delete', 'crd', ...NAMES, '--wait=false']);
}

/** Lets a kind take anything while `work` is done: how an object comes about that no version of us can read. */
export async function withoutSchema(plural, work) {
  const name = `${plural}.carillon.dev`;
  const anything = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  const patch = [{ op: 'replace', path: '/spec/versions/0/schema/openAPIV3Schema', value: anything }];
  must(['patch', 'crd', name, '--type=json', '--patch', JSON.stringify(patch)]);
  try {
    return await work();
  } finally {
    define();
  }
}
