// The chart as Helm renders it, and its objects by kind and name.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import YAML from 'yaml';

const root = path.resolve(import.meta.dirname, '../..');
export const chart = path.join(root, 'helm/carillon');

const tools = {};

/** The path of a tool, or why there is none. */
export function tool(name) {
  return (tools[name] ??= look(name));
}

function look(name) {
  const found = spawnSync(path.join(root, 'scripts/kubernetes-tools'), [name], { encoding: 'utf8' });
  if (found.status === 0) return { path: found.stdout.trim() };
  if (found.status === 3) return { missing: found.stderr.trim() };
  throw new Error(`scripts/kubernetes-tools ${name}: ${found.stderr}`);
}

/** The values files of ci/, by feature. */
export const features = Object.fromEntries(
  fs.readdirSync(path.join(chart, 'ci')).map((file) => [file.replace('-values.yaml', ''), path.join(chart, 'ci', file)]),
);

export class Helm {
  constructor(program) {
    this.program = program;
    this.rendered = {};
  }

  run(args, input) {
    // No cluster may be asked, whatever this machine is set to.
    return spawnSync(this.program, args, { encoding: 'utf8', input, maxBuffer: 1 << 28, env: { ...process.env, KUBECONFIG: '/dev/null' } });
  }

  /** What `helm template` prints for values: the name of a file of ci/, an object, or several of them. */
  text(values, more = []) {
    const args = ['template', 'push', chart, '--namespace', 'tests', ...more];
    let input = '';
    for (const one of [values].flat()) {
      if (typeof one === 'string') args.push('--values', features[one]);
      else { input = JSON.stringify(one); args.push('--values', '-'); }
    }
    return this.run(args, input);
  }

  /** The objects for values; those of a feature are rendered once. */
  render(values, more) {
    if (typeof values !== 'string' || more) return this.fresh(values, more);
    return (this.rendered[values] ??= this.fresh(values));
  }

  fresh(values, more) {
    const rendered = this.text(values, more);
    if (rendered.status !== 0) throw new Error(`helm template: ${rendered.stderr}`);
    return new Objects(rendered.stdout);
  }

  /** What Helm says against values. */
  refusal(values) {
    const rendered = this.text(values);
    if (rendered.status === 0) throw new Error(`these values were taken: ${JSON.stringify(values)}`);
    return rendered.stderr;
  }
}

export class Objects {
  constructor(text) {
    this.text = text;
    this.all = YAML.parseAllDocuments(text).map((document) => {
      if (document.errors.length) throw document.errors[0];
      return document.toJSON();
    }).filter(Boolean);
  }

  of(kind) {
    return this.all.filter((object) => object.kind === kind);
  }

  /** The one object of a kind whose name ends so. */
  get(kind, end = '') {
    const found = this.of(kind).filter(({ metadata }) => metadata.name.endsWith(end));
    if (found.length !== 1) throw new Error(`${found.length} of ${kind} …${end}: ${found.map(({ metadata }) => metadata.name)}`);
    return found[0];
  }

  /** Every pod's specification with where it comes from. */
  pods() {
    return this.all.flatMap((object) => {
      const pod = object.kind === 'Pod' ? object : object.spec?.template;
      return pod?.spec?.containers ? [{ name: `${object.kind} ${object.metadata.name}`, labels: pod.metadata.labels, annotations: pod.metadata.annotations, spec: pod.spec }] : [];
    });
  }

  /** A component's settings file, as it is written. */
  settingsFile(component) {
    // Dashboards are named after components, too.
    const named = this.of('ConfigMap').filter(({ data }) => data['carillon.yaml']);
    const found = named.find(({ metadata }) => metadata.labels['app.kubernetes.io/component'] === component);
    return found.data['carillon.yaml'];
  }

  settings(component) {
    return YAML.parse(this.settingsFile(component));
  }
}
