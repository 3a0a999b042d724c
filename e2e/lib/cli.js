// The command line, as a user types it.
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { logs } from './canaries.js';

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

/** Runs a line of bash to its end. */
export function sh(line, { env = {}, cwd, input } = {}) {
  const done = spawnSync('bash', ['-c', line], { env: shellEnv(env), cwd, input, encoding: 'utf8', timeout: 60_000 });
  keep(done.stderr);
  return done;
}

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** A line of bash that goes on; its last command should be an `exec`, so that signals reach it. */
export class Shell {
  constructor(line, { env = {}, cwd } = {}) {
    this.stdout = '';
    this.stderr = '';
    this.process = spawn('bash', ['-c', line], { env: shellEnv(env), cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this.process);
    this.process.stdout.setEncoding('utf8').on('data', (text) => { this.stdout += text; });
    this.process.stderr.setEncoding('utf8').on('data', (text) => { this.stderr += text; keep(text); });
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

  async stop(signal = 'SIGINT') {
    this.process.kill(signal);
    return this.ended;
  }
}
