// One server with an append-only file; replicas may be attached to it and taken away.
import { Server } from './server.js';

export class Alone {
  replicas = [];
  mode = 'standalone';

  static async start({ lines = [], replicas = 0 } = {}) {
    const shape = new Alone();
    shape.server = await Server.start({ lines });
    shape.lines = lines;
    for (let n = 0; n < replicas; n += 1) await shape.attach();
    return shape;
  }

  /** Servers and Sentinels that a service may be told of. */
  get servers() {
    return [this.server, ...this.replicas];
  }

  get seeds() {
    return [this.server];
  }

  async primaries() {
    return [this.server];
  }

  async primary() {
    return this.server;
  }

  /** Another replica, which holds everything when this returns. */
  async attach() {
    const replica = await Server.start({ name: 'replica', lines: [...this.lines, `replicaof 127.0.0.1 ${this.server.port}`] });
    this.replicas.push(replica);
    await replica.follows();
    return replica;
  }

  async detach(replica = this.replicas.at(-1)) {
    this.replicas = this.replicas.filter((each) => each !== replica);
    await replica.remove();
  }

  async end() {
    await Promise.all(this.servers.map((server) => server.remove()));
  }
}
