// A TCP proxy that breaks connections: cut with a reset, or a black hole that stays open and carries nothing.
import net from 'node:net';

export class Proxy {
  /** @param {number} port where to */
  static async start(port) {
    const proxy = new Proxy();
    proxy.pairs = new Set();
    /** Whoever comes is turned away. */
    proxy.shut = false;
    proxy.server = net.createServer((client) => {
      if (proxy.shut) return client.resetAndDestroy();
      const server = net.connect(port, '127.0.0.1');
      const pair = { client, server, hole: false, seen: undefined };
      proxy.pairs.add(pair);
      const forward = (from, to, name) => {
        from.on('data', (bytes) => {
          if (pair.hole) return;
          if (proxy.watch?.(name, bytes, pair) === false) return;
          if (!to.write(bytes)) {
            from.pause();
            to.once('drain', () => from.resume());
          }
        });
        // A hole stays open until it is cut.
        const end = () => { if (!pair.hole) { proxy.pairs.delete(pair); to.destroy(); } };
        from.on('close', end).on('error', end);
      };
      forward(client, server, 'up');
      forward(server, client, 'down');
    });
    await new Promise((resolve) => { proxy.server.listen(0, '127.0.0.1', resolve); });
    proxy.port = proxy.server.address().port;
    proxy.url = `http://127.0.0.1:${proxy.port}`;
    return proxy;
  }

  /** Resets every connection, and lets nobody in until `shut` is false again. */
  away() {
    this.shut = true;
    this.cut();
  }

  /** Resets every connection. */
  cut() {
    for (const { client, server } of this.pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
    this.pairs.clear();
  }

  /** Lets every connection stand open and carry nothing. The far side notices by itself. */
  swallow() {
    for (const pair of this.pairs) {
      pair.hole = true;
      pair.server.destroy();
    }
  }

  close() {
    this.cut();
    this.server.close();
  }
}
