// How full a server is, seen so often that no moment is missed in which it was too full.
import net from 'node:net';

/** Milliseconds between two looks. */
const LOOK = 50;

export class Memory {
  /** The highest share of `maxmemory` since `watch`. */
  most = 0;
  #waiting = [];
  #text = '';

  /** @param {import('./shapes/server.js').Server} server one without a password */
  static async of(server) {
    const memory = new Memory();
    // A connection that stands: a process for each look would cost more than what is looked at.
    memory.socket = net.connect(server.port, '127.0.0.1');
    memory.socket.on('data', (bytes) => memory.#read(bytes)).on('error', () => {});
    await new Promise((resolve) => { memory.socket.once('connect', resolve); });
    memory.timer = setInterval(() => memory.#look(), LOOK);
    // A scenario that breaks off leaves it.
    memory.timer.unref();
    memory.socket.unref();
    return memory;
  }

  #look() {
    this.socket.write('INFO memory\r\n');
  }

  #read(bytes) {
    this.#text += bytes;
    // It comes in one piece or in more; this is near its end.
    for (let end; (end = this.#text.indexOf('lazyfreed_objects:')) >= 0; this.#text = this.#text.slice(end + 1)) {
      const field = (name) => Number(new RegExp(`\\n${name}:(\\d+)`).exec(this.#text)[1]);
      const [used, limit] = [field('used_memory'), field('maxmemory')];
      if (limit > 0) this.most = Math.max(this.most, used / limit);
      this.#waiting.splice(0).forEach((resolve) => resolve(used));
    }
  }

  /** Bytes that it uses. */
  used() {
    return new Promise((resolve) => { this.#waiting.push(resolve); });
  }

  /** Forgets how full it was before. */
  watch() {
    this.most = 0;
  }

  close() {
    clearInterval(this.timer);
    this.socket.destroy();
  }
}
