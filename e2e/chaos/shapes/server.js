// One redis-server, or one Sentinel: a process with a folder and a configuration of its own, and the verbs that trouble it.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../../lib/ports.js';
import { Child } from '../../lib/processes.js';
import { CLI, SERVER } from '../../lib/redis.js';
import { until } from '../../lib/until.js';

const run = promisify(execFile);

/** The user that Sentinels come as, so that they can be kept out while everybody else, who has the other password, is let in. */
export const SENTINEL = { user: 'sentinel', password: 'who watches' };

export class Server {
  /**
   * @param {{ name?: string, sentinel?: boolean, port?: number, lines?: string[], password?: string }} what `lines` of
   *   its configuration; the password of clients and replicas
   */
  static async start({ name = 'redis', sentinel = false, port, lines = [], password } = {}) {
    const server = new Server();
    server.password = password;
    server.port = port ?? (await freePort());
    server.name = `${name}-${server.port}`;
    server.sentinel = sentinel;
    server.folder = fs.mkdtempSync(path.join(os.tmpdir(), `carillon-${name}-`));
    const own = sentinel ? [] : [
      'maxmemory-policy noeviction', 'appendonly yes', 'appendfsync everysec', 'save ""',
      // A replica that comes is served at once.
      'repl-diskless-sync yes', 'repl-diskless-sync-delay 0', 'repl-ping-replica-period 1',
      ...(password ? [`requirepass "${password}"`, `masterauth "${password}"`, `user ${SENTINEL.user} on ">${SENTINEL.password}" allchannels allkeys +@all`] : []),
    ];
    // A Sentinel writes to it, and has a server that it promotes or demotes write to its own: a restart keeps the role.
    server.file = path.join(server.folder, 'redis.conf');
    fs.writeFileSync(server.file, [`port ${server.port}`, 'bind 127.0.0.1', `dir ${server.folder}`, ...own, ...lines, ''].join('\n'));
    await server.restart();
    return server;
  }

  get address() {
    return `127.0.0.1:${this.port}`;
  }

  /** Starts it (again), with what it has on disk. */
  async restart() {
    this.stopped = false;
    this.child = new Child(this.name, SERVER, [this.file, ...(this.sentinel ? ['--sentinel'] : [])]);
    await until(`${this.name} answers`, async () => (await this.cli('PING')) === 'PONG');
  }

  /** Ends it as a crash would. */
  async kill() {
    await this.child.kill();
  }

  /** Stops it in its tracks: connections are taken and stand, and nothing is answered. */
  async stop() {
    this.stopped = true;
    this.child.signal('SIGSTOP');
    const state = () => /\) (\w)/.exec(fs.readFileSync(`/proc/${this.child.process.pid}/stat`, 'utf8'))[1];
    await until(`${this.name} stands still`, () => state() === 'T');
  }

  /** Lets it go on, with all that was sent to it meanwhile. */
  continue() {
    this.stopped = false;
    this.child.signal('SIGCONT');
  }

  /** What `redis-cli` prints, without the end of the line. An error of the server is thrown. */
  async cli(...args) {
    const { stdout } = await run(CLI, ['-e', '-p', `${this.port}`, ...args.map(String)], {
      timeout: 5_000, maxBuffer: 256 << 20, env: { ...process.env, ...(this.password && { REDISCLI_AUTH: this.password }) },
    });
    return stdout.trimEnd();
  }

  /** A section of INFO, as an object. */
  async info(section) {
    const lines = (await this.cli('INFO', section)).split('\n').map((line) => line.trim());
    return Object.fromEntries(lines.filter((line) => line.includes(':')).map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
  }

  /** Whether it says of itself that it is a primary; `undefined` where it says nothing. */
  async isPrimary() {
    return this.info('replication').then(({ role }) => role === 'master', () => undefined);
  }

  /** Waits until it holds what its primary does. */
  async follows() {
    await until(`${this.name} follows`, async () => (await this.info('replication')).master_link_status === 'up');
  }

  /** Sentinels can't reach it any more, and don't come back until `admit`. Everybody else can. */
  async shun() {
    await this.cli('ACL', 'SETUSER', SENTINEL.user, 'off');
    await this.cli('CLIENT', 'KILL', 'USER', SENTINEL.user);
  }

  async admit() {
    await this.cli('ACL', 'SETUSER', SENTINEL.user, 'on');
  }

  /** Ends it for good, and removes what it kept. */
  async remove() {
    // One that stands still would not hear of its end otherwise.
    if (this.stopped) this.continue();
    await this.child.kill();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}
