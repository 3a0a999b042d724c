// No secret in any log of a cluster's pods: as `suites/99-log-hygiene.test.js`, for what runs in Kubernetes. Whoever makes
// a namespace has it guarded; from then on the logs of all its pods are followed, those that go and those that crash, and
// all its Secrets are watched, for they are made, rotated and deleted meanwhile. When the suite is over, none may be in a log.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { becameReady, leaks, levels, logs, planted, startedAt } from '../../lib/canaries.js';

const suite = path.basename(process.argv[1], '.test.js');
/** What the pods of this suite wrote. */
const folder = path.resolve(import.meta.dirname, '../../.artifacts/kubernetes', suite);
/** Helm keeps the whole chart in Secrets of its own. */
const NOT_HELM = 'type!=helm.sh/release.v1';
const SERVICES = ['gateway', 'dispatcher', 'ingest', 'operator'];
/** What is no secret in a Secret. */
const PUBLIC = ['ca.crt', 'tls.crt', 'namespace', 'username'];

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

function kubectl(args, stdout) {
  const child = spawn('kubectl', args, { stdio: ['ignore', stdout, 'ignore'] });
  running.add(child);
  child.ended = new Promise((resolve) => {
    child.once('close', (code) => {
      running.delete(child);
      resolve(code);
    });
  });
  return child;
}

/** The parts of a Secret's value that must not be seen: of a URL the password, of a file its lines. */
function parts(name, value) {
  if (PUBLIC.includes(name)) return [];
  if (URL.canParse(value)) {
    const { password } = new URL(value);
    return [password, decodeURIComponent(password)];
  }
  return value.split('\n').map((line) => line.trim()).filter((line) => !line.startsWith('-----'));
}

class Guard {
  constructor(namespace, components) {
    this.namespace = namespace;
    /** Services that are to have a log, and those that have. */
    this.components = new Set(components);
    this.seen = new Set();
    /** kind → texts */
    this.secrets = new Map();
    /** Containers whose log is being followed → its file. */
    this.followed = new Map();
    this.live = new Map();
    this.over = false;
    this.watch(['pods'], (pod) => this.pod(pod));
    this.watch(['secrets', '--field-selector', NOT_HELM], (secret) => this.secret(secret));
  }

  /** Every object of a kind, as it is and as it becomes; the API server may be away for a while. */
  async watch(args, tell) {
    while (!this.over) {
      const child = kubectl(['--namespace', this.namespace, 'get', '--watch', '--output', 'json', ...args], 'pipe');
      // One object after the other, each over many lines; the last one may be cut off.
      let object = '';
      createInterface({ input: child.stdout }).on('line', (line) => {
        object += `${line}\n`;
        if (line !== '}') return;
        tell(JSON.parse(object));
        object = '';
      });
      await child.ended;
      await new Promise((resolve) => { setTimeout(resolve, 500); });
    }
  }

  secret({ metadata, data }) {
    for (const [key, encoded] of Object.entries(data ?? {})) {
      const kind = `Secret ${this.namespace}/${metadata.name}, ${key}`;
      const known = this.secrets.get(kind) ?? new Set();
      // What is short would be found by chance.
      for (const text of parts(key, Buffer.from(encoded, 'base64').toString())) if (text.length >= 16) known.add(text);
      if (known.size > 0) this.secrets.set(kind, known);
    }
  }

  pod({ metadata, status }) {
    const { name: pod, uid, labels } = metadata;
    const component = labels?.['app.kubernetes.io/component'] ?? '';
    // One that no node takes has none.
    if (SERVICES.includes(component) && status.containerStatuses) this.components.add(component);
    for (const { name: container, restartCount: restarts, state, ready } of status.containerStatuses ?? []) {
      const life = `${uid} ${container} ${restarts}`;
      // One that is on its way out when it is first seen belongs to the suite before, and its log may go at any moment.
      if (metadata.deletionTimestamp && !this.followed.has(life)) continue;
      if (state.running && !this.followed.has(life)) this.follow(life, { pod, container, component, restarts });
      if (ready) {
        this.seen.add(component);
        const file = this.followed.get(life);
        if (file && !this.live.has(life)) becameReady(file);
        if (file) this.live.set(life, { pod, container, file });
      }
    }
  }

  /** Follows the log of a container to its end; if it was the connection that ended, again. */
  async follow(life, { pod, container, component, restarts }) {
    const name = `${component || 'pod'}-${this.namespace}-${pod}-${container}-${restarts}`;
    const file = path.join(folder, `${name}.log`);
    this.followed.set(life, file);
    // The chart says so, and a line of it proves it: see `levels`.
    startedAt(file, 'trace');
    // A container that was restarted may have said its last words after its connection had ended.
    if (restarts > 0) this.fetch(pod, container, path.join(folder, `${name}-previous.txt`), '--previous');
    for (let time = 0; time < 10 && !this.over; time += 1) {
      const out = fs.openSync(time === 0 ? file : path.join(folder, `${name}-again-${time}.txt`), 'w');
      const child = kubectl(['--namespace', this.namespace, 'logs', pod, '--container', container, '--follow'], out);
      fs.closeSync(out);
      if (await child.ended === 0) return;
      await new Promise((resolve) => { setTimeout(resolve, 500); });
    }
  }

  fetch(pod, container, file, ...more) {
    const { status, stdout } = spawnSync('kubectl', ['--namespace', this.namespace, 'logs', pod, '--container', container, ...more], { maxBuffer: 1 << 30 });
    if (status === 0) fs.writeFileSync(file, stdout);
  }

  /** What was written up to now, whatever became of the followers' connections. */
  finish() {
    this.over = true;
    for (const { pod, container, file } of this.live.values()) this.fetch(pod, container, file.replace(/\.log$/, '-whole.txt'));
  }
}

const guards = new Map();

/**
 * Has an eye on a namespace until the suite is over.
 * @param {string} namespace
 * @param {{ components?: string[] }} [expected] of which there has to be a log in the end, beside those that are there
 */
export function guard(namespace, { components = [] } = {}) {
  if (guards.size === 0) {
    fs.rmSync(folder, { recursive: true, force: true });
    fs.mkdirSync(folder, { recursive: true });
  }
  if (!guards.has(namespace)) guards.set(namespace, new Guard(namespace, components));
}

/** The logs in which there is something. Those of pods that went as the suite began, with what was before it, may not be had. */
const said = () => fs.readdirSync(folder).filter((file) => file.endsWith('.log') && fs.statSync(path.join(folder, file)).size > 0);

/** Every secret of the suite in everything that was logged. */
function look() {
  for (const each of guards.values()) each.finish();
  for (const child of running) {
    child.kill('SIGKILL');
    child.stdout?.destroy();
  }
  const kinds = planted({ alone: true });
  // How every signed token begins: those of service accounts are in no Secret.
  kinds.set('a signed token', new Set(['eyJhbGciOiJ']));
  for (const { namespace, components, seen, secrets } of guards.values()) {
    const isSeen = (component) => seen.has(component) && said().some((file) => file.startsWith(`${component}-${namespace}-`));
    assert.deepEqual([...components].filter((component) => !isSeen(component)), [], `the logs of all components of ${namespace} were seen`);
    for (const [kind, texts] of secrets) kinds.set(kind, texts);
  }
  assert.ok([...kinds.keys()].some((kind) => kind.startsWith('Secret ')), 'there were Secrets');
  const own = (file) => file.includes(`-${process.pid}-`);
  const folders = [[folder, (file) => said().includes(file)], [logs, own]].filter(([where]) => fs.existsSync(where));
  assert.deepEqual(folders.flatMap(([where, concerns]) => levels(where, concerns).untraced), [], 'every service logged at trace');
  const found = folders.flatMap(([where]) => leaks(where, kinds).map((leak) => ({ ...leak, file: path.join(where, leak.file) })));
  const told = new Set(found.map(({ file, line, kind }) => `${file}:${line}: ${kind}`));
  assert.equal(found.length, 0, `secrets in logs:\n${[...told].slice(0, 50).join('\n')}`);
}

// The look comes before the hooks of the suite, which take down what is looked at. What it found is told after them, as
// no hook is run after one that fails.
let failure;
after(() => {
  try {
    if (guards.size > 0) look();
  } catch (error) {
    failure = error;
  }
});
setImmediate(() => after(() => { if (failure) throw failure; }));
