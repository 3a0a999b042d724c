// Real processes, started and killed. Everything that was started is dead when the test process is.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { becameReady, logs, startedAt } from './canaries.js';
import { freePort } from './ports.js';
import { until } from './until.js';

const artifacts = path.resolve(import.meta.dirname, '../.artifacts');
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** A child process with its output in a file. */
export class Child {
  constructor(name, command, args, env = {}, folder = artifacts) {
    fs.mkdirSync(folder, { recursive: true });
    this.name = name;
    this.log = path.join(folder, `${name}-${process.pid}-${Date.now()}.log`);
    const out = fs.openSync(this.log, 'w');
    this.process = spawn(command, args, { stdio: ['ignore', out, out], env: { ...process.env, ...env } });
    running.add(this.process);
    this.ended = new Promise((resolve) => {
      this.process.once('exit', (code, signal) => {
        running.delete(this.process);
        resolve({ code, signal });
      });
    });
  }

  output() {
    return fs.readFileSync(this.log, 'utf8');
  }

  signal(name) {
    this.process.kill(name);
  }

  /** Kills it as a crash would. */
  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  /** Asks it to go and waits until it has. */
  async stop() {
    this.process.kill('SIGTERM');
    return this.ended;
  }
}

/** A Carillon service that listens on ports of its own. */
export class Service extends Child {
  static async start(kind, settings = {}, { ready = true, binary = process.env.E2E_BINARY } = {}) {
    const ports = { admin: await freePort(), gateway: await freePort(), ingest: await freePort(), grpc: await freePort() };
    const env = {
      CARILLON_ADMIN__LISTEN: `127.0.0.1:${ports.admin}`,
      CARILLON_GATEWAY__LISTEN: `127.0.0.1:${ports.gateway}`,
      CARILLON_INGEST__HTTP__LISTEN: `127.0.0.1:${ports.ingest}`,
      CARILLON_INGEST__GRPC__LISTEN: `127.0.0.1:${ports.grpc}`,
      CARILLON_GATEWAY__POD: `${kind}-${ports.admin}`,
      CARILLON_BROKER__PARTITIONS: '8',
      CARILLON_LOG__FORMAT: 'text',
      // The last suite looks for secrets in all that was logged, and for a service that logged less.
      CARILLON_LOG__LEVEL: 'trace',
      ...settings,
    };
    const service = new Service(`${kind}-${ports.admin}`, binary, [kind], env, logs);
    startedAt(service.log, env.CARILLON_LOG__LEVEL);
    service.url = `http://127.0.0.1:${ports.gateway}`;
    service.ingest = `http://127.0.0.1:${ports.ingest}`;
    service.grpc = `127.0.0.1:${ports.grpc}`;
    service.admin = `http://127.0.0.1:${ports.admin}`;
    service.gatewayPort = ports.gateway;
    if (ready) await service.ready();
    return service;
  }

  async ready() {
    await until(`${this.name} is ready; its log: ${this.log}`, async () => (await fetch(`${this.admin}/readyz`)).ok);
    this.wasReady();
  }

  /** It was seen to be ready: from now on its log has to be whole. */
  wasReady() {
    becameReady(this.log);
  }

  /** The checks of readiness, as text. */
  async readiness() {
    const answer = await fetch(`${this.admin}/readyz`);
    return { ok: answer.ok, text: await answer.text() };
  }

  /** The sum of a metric over its labels. */
  async metric(name, labels = '') {
    const text = await (await fetch(`${this.admin}/metrics`)).text();
    return text
      .split('\n')
      .filter((line) => (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) && line.includes(labels))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }
}
