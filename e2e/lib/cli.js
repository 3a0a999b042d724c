// The command line, as a user types it.
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { becameReady, logs, startedAt } from './canaries.js';

/** The environment in which `carillon` is found. */
export const shellEnv = (env = {}) => ({
  ...process.env,
  PATH: `${path.dirname(process.env.E2E_BINARY)}:${process.env.PATH}`,
  ...env,
});

/** What a tool complains of is kept: no secret may be in there either. */
function keep(stderr) {
  fs.mkdirSync(logs, { recursive: true });
  fs.appendFileSync(path.join(logs, `tools-${process.pid}.log`), stderr);
}

/** Bash, in which a pipe fails that any part of fails. */
const bash = (line) => ['bash', ['-o', 'pipefail', '-c', line]];

/** Runs a line of bash to its end. */
export function sh(line, { env = {}, cwd, input } = {}) {
  const done = spawnSync(...bash(line), { env: shellEnv(env), cwd, input, encoding: 'utf8', timeout: 60_000 });
  keep(done.stderr);
  return done;
}

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/**
 * A line of bash that goes on; its last command should be an `exec`, so that signals reach it. If it is a service,
 * `service` says which: it logs at `trace` into a log of its own, as all services do.
 */
export class Shell {
  constructor(line, { env = {}, cwd, service } = {}) {
    this.stdout = '';
    this.stderr = '';
    let complained = keep;
    if (service) {
      fs.mkdirSync(logs, { recursive: true });
      this.log = path.join(logs, `${service}-shell-${process.pid}-${Date.now()}.log`);
      startedAt(this.log, 'trace');
      complained = (text) => fs.appendFileSync(this.log, text);
    }
    const level = service ? { CARILLON_LOG__LEVEL: 'trace' } : {};
    this.process = spawn(...bash(line), { env: shellEnv({ ...level, ...env }), cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this.process);
    this.process.stdout.setEncoding('utf8').on('data', (text) => { this.stdout += text; });
    this.process.stderr.setEncoding('utf8').on('data', (text) => { this.stderr += text; complained(text); });
    this.ended = new Promise((resolve) => {
      this.process.once('close', (code, signal) => {
        running.delete(this.process);
        resolve({ code, signal });
      });
    });
    this.ended.then((how) => { this.end = how; });
  }

  /** The whole lines so far, as JSON. */
  get lines() {
    return this.stdout.split('\n').slice(0, -1).map((line) => JSON.parse(line));
  }

  /** Says that the service was found ready. */
  ready() {
    becameReady(this.log);
  }

  async stop(signal = 'SIGINT') {
    this.process.kill(signal);
    return this.ended;
  }
}
