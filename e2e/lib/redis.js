// A real Redis with the settings Carillon asks for.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Child } from './processes.js';
import { freePort } from './ports.js';
import { until } from './until.js';

/** What is run: other versions than those in PATH can be named. */
export const SERVER = process.env.REDIS_SERVER || 'redis-server';
export const CLI = process.env.REDIS_CLI || 'redis-cli';

export class Redis {
  /** @param {{ port?: number, users?: string[] }} [what] `users`: lines of an ACL file */
  static async start({ port, users = [] } = {}) {
    const redis = new Redis();
    redis.port = port ?? (await freePort());
    redis.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-redis-'));
    fs.writeFileSync(path.join(redis.folder, 'users.acl'), users.map((line) => `${line}\n`).join(''));
    await redis.run();
    return redis;
  }

  async run() {
    this.child = new Child(`redis-${this.port}`, SERVER, [
      '--port', `${this.port}`, '--bind', '127.0.0.1', '--dir', this.folder,
      '--maxmemory-policy', 'noeviction', '--appendonly', 'yes', '--save', '', '--aclfile', path.join(this.folder, 'users.acl'),
    ]);
    await until('redis answers', () => this.cli('PING').trim() === 'PONG');
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** What `redis-cli` prints. */
  cli(...args) {
    return execFileSync(CLI, ['-p', `${this.port}`, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  }

  /** Puts bytes at the end of a list: an argument of `cli` can't hold them all. */
  push(list, bytes) {
    execFileSync(CLI, ['-p', `${this.port}`, '-x', 'RPUSH', list], { input: bytes });
  }

  /** Stops it in its tracks: connections stand, bytes are taken, and nothing is answered. It stands still when this returns. */
  freeze() {
    this.child.signal('SIGSTOP');
    const state = () => /\) (\w)/.exec(fs.readFileSync(`/proc/${this.child.process.pid}/stat`, 'utf8'))[1];
    while (state() !== 'T');
  }

  /** Lets it go on, with all that was sent to it meanwhile. */
  thaw() {
    this.child.signal('SIGCONT');
  }

  async stop() {
    await this.child.kill();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}
