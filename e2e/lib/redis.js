// A real Redis with the settings Carillon asks for.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Child } from './processes.js';
import { freePort } from './ports.js';
import { until } from './until.js';

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
    this.child = new Child(`redis-${this.port}`, 'redis-server', [
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
    return execFileSync('redis-cli', ['-p', `${this.port}`, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  }

  async stop() {
    await this.child.kill();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}
