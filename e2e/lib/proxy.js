// A TCP proxy that breaks connections: cut with a reset, or a black hole that stands open and carries nothing. It can
// also be slow: with a delay, or with so many bytes per second.
import net from 'node:net';
import { Pace } from './pace.js';

/** Ends a connection with a reset. One that has said its end, or not begun, can't be; Node would keep it for ever. */
const reset = (socket) => (socket.connecting || socket.writableEnded ? socket.destroy() : socket.resetAndDestroy());

/** One connection through the proxy: `{ client, server, hole }`. What a hole swallows waits in it. */
export class Proxy {
  /** @param {number | (() => number)} port where to; asked for each connection */
  static async start(port) {
    const proxy = new Proxy();
    /** Where new connections go. */
    proxy.target = port;
    /** Milliseconds that bytes take on their way, and bytes per second that pass, in each direction. */
    proxy.lag = 0;
    proxy.rate = Infinity;
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
      const to = typeof proxy.target === 'function' ? proxy.target() : proxy.target;
      const server = net.connect(to, '127.0.0.1');
      const pair = { client, server, to, hole: false, seen: undefined };
      proxy.pairs.add(pair);
      proxy.opened += 1;
      proxy.greet?.(pair);
      const forward = (from, to, name) => {
        const hold = (released) => {
          from.pause();
          released(() => { if (!pair.hole) from.resume(); });
        };
        const pace = new Pace(proxy, (bytes) => {
          if (!to.destroyed && !to.write(bytes)) hold((resume) => to.once('drain', resume));
        }, hold);
        from.on('data', (read) => {
          const bytes = proxy.alter?.(name, read, pair) ?? read;
          const passes = proxy.watch?.(name, bytes, pair) ?? true;
          if (passes === false) return;
          pace.send(passes === true ? bytes : bytes.subarray(0, passes));
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

  /**
   * From now on the clients' ends stand open and nobody is behind them: the other side is gone without a word, as after
   * a power cut. Gives those connections; new ones are made as ever.
   */
  halve() {
    const halved = [...this.pairs].filter((pair) => !pair.hole);
    for (const pair of halved) {
      pair.hole = true;
      pair.server.destroy();
      pair.client.removeAllListeners('data').resume();
    }
    return halved;
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
