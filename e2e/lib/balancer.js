// A load balancer as simple as they come: each TCP connection goes to the next port that takes it. No affinity at all.
import net from 'node:net';

export class Balancer {
  /** @param {number[]} ports */
  static async start(ports) {
    const balancer = new Balancer();
    balancer.ports = [...ports];
    balancer.next = 0;
    /** How often each HTTP status was answered. */
    balancer.statuses = new Map();
    balancer.server = net.createServer((client) => balancer.connect(client, balancer.ports.length));
    await new Promise((resolve) => { balancer.server.listen(0, '127.0.0.1', resolve); });
    balancer.url = `http://127.0.0.1:${balancer.server.address().port}`;
    return balancer;
  }

  connect(client, tries) {
    client.removeAllListeners('error');
    client.on('error', () => client.destroy());
    if (tries === 0) return client.destroy();
    this.next = (this.next + 1) % this.ports.length;
    const server = net.connect(this.ports[this.next], '127.0.0.1');
    server.once('error', () => this.connect(client, tries - 1));
    server.once('connect', () => {
      server.removeAllListeners('error');
      server.on('error', () => client.destroy());
      server.on('data', (bytes) => this.count(bytes));
      client.pipe(server).pipe(client);
      client.on('close', () => server.destroy());
      server.on('close', () => client.destroy());
    });
    return undefined;
  }

  count(bytes) {
    const status = /^HTTP\/1\.1 (\d+)/.exec(bytes.toString('latin1', 0, 12));
    if (status) this.statuses.set(status[1], (this.statuses.get(status[1]) ?? 0) + 1);
  }

  close() {
    this.server.close();
  }
}
