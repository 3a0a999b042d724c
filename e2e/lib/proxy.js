// A TCP proxy that breaks connections: cut with a reset, or a black hole that stands open and carries nothing.
import net from 'node:net';

/** Ends a connection with a reset. One that has said its end, or not begun, can't be; Node would keep it for ever. */
const reset = (socket) => (socket.connecting || socket.writableEnded ? socket.destroy() : socket.resetAndDestroy());

/** One connection through the proxy: `{ client, server, hole }`. What a hole swallows waits in it. */
export class Proxy {
  /** @param {number} port where to */
  static async start(port) {
    const proxy = new Proxy();
    proxy.pairs = new Set();
    /** With it, new connections are reset at once. */
    proxy.refusing = false;
    /** How many connections came. */
    proxy.opened = 0;
    proxy.server = net.createServer((client) => {
      if (proxy.refusing) {
        client.on('error', () => {});
        reset(client);
        return;
      }
      const server = net.connect(port, '127.0.0.1');
      const pair = { client, server, hole: false, seen: undefined };
      proxy.pairs.add(pair);
      proxy.opened += 1;
      proxy.greet?.(pair);
      const forward = (from, to, name) => {
        from.on('data', (bytes) => {
          const passes = proxy.watch?.(name, bytes, pair) ?? true;
          if (passes === false) return;
          if (!to.write(passes === true ? bytes : bytes.subarray(0, passes))) {
            from.pause();
            to.once('drain', () => { if (!pair.hole) from.resume(); });
          }
        });
        // A hole stands open on the other side, whatever becomes of this one.
        const end = () => {
          if (pair.hole) return;
          proxy.pairs.delete(pair);
          to.destroy();
        };
        from.on('close', end).on('error', end);
      };
      forward(client, server, 'up');
      forward(server, client, 'down');
      if (proxy.dark) proxy.darken(pair);
    });
    await new Promise((resolve) => { proxy.server.listen(0, '127.0.0.1', resolve); });
    proxy.port = proxy.server.address().port;
    proxy.url = `http://127.0.0.1:${proxy.port}`;
    return proxy;
  }

  /** Resets every connection, and lets nobody in until `refusing` is false again. */
  away() {
    this.refusing = true;
    this.cut();
  }

  /** Resets connections on both sides; all of them, if not told which. */
  cut(pairs = [...this.pairs]) {
    for (const pair of pairs) {
      this.forsake(pair);
      reset(pair.server);
      this.pairs.delete(pair);
    }
  }

  /** Resets a connection on the client's side. If it was swallowed, the other side stands open. */
  forsake({ client }) {
    reset(client);
  }

  /**
   * From now on every connection stands open on both sides and carries nothing, and so does each that comes, until
   * `lift`. Nobody is told. Gives them; what comes later is added.
   */
  swallow() {
    this.dark = [];
    for (const pair of this.pairs) if (!pair.hole) this.darken(pair);
    return this.dark;
  }

  darken(pair) {
    pair.hole = true;
    pair.client.pause();
    pair.server.pause();
    this.dark.push(pair);
  }

  /** New connections carry something again. Those that were swallowed stay so. */
  lift() {
    this.dark = undefined;
  }

  /** What was swallowed goes on: what waited flows, late, and each side hears that the other is gone. */
  release(pairs) {
    for (const pair of pairs) {
      if (!this.pairs.has(pair)) continue;
      pair.hole = false;
      if (pair.client.destroyed || pair.server.destroyed) {
        this.pairs.delete(pair);
        pair.client.destroy();
        pair.server.destroy();
      } else {
        pair.client.resume();
        pair.server.resume();
      }
    }
  }

  close() {
    for (const { client, server } of this.pairs) [client, server].forEach((socket) => socket.destroy());
    this.server.close();
  }
}
