// The way from one process to one server, and what may happen to it.
import { Proxy } from '../lib/proxy.js';

export class Link {
  /** @param {number | (() => number)} port where to */
  static async to(port) {
    const link = new Link();
    link.proxy = await Proxy.start(port);
    return link;
  }

  get port() {
    return this.proxy.port;
  }

  /** Leads elsewhere from the next connection on. */
  lead(port) {
    this.proxy.target = port;
  }

  /** Resets all connections; new ones are made. */
  cut() {
    this.proxy.cut();
  }

  /** Resets all connections, and each that comes, until `heal`. */
  refuse() {
    this.proxy.away();
  }

  /** Every connection, and each that comes, is taken and carries nothing, until `heal`. */
  silence() {
    this.dark = this.proxy.swallow();
  }

  /** The far side of every connection is gone, and nobody is told. New ones are made. */
  halve() {
    this.halved = [...(this.halved ?? []), ...this.proxy.halve()];
  }

  /** @param {number} milliseconds that everything takes on its way, until `heal` */
  delay(milliseconds) {
    this.proxy.lag = milliseconds;
  }

  /** @param {number} rate bytes per second that pass, until `heal` */
  throttle(rate) {
    this.proxy.rate = rate;
  }

  /**
   * Resets connections that bring what fits, before the far side has it.
   * @param {(bytes: Buffer) => boolean} fits
   */
  cutBefore(fits) {
    this.proxy.watch = (direction, bytes, pair) => {
      if (direction !== 'up' || !fits(bytes)) return true;
      setImmediate(() => this.proxy.cut([pair]));
      return false;
    };
  }

  /**
   * Resets connections on which what fits was passed on, in place of the answer.
   * @param {(bytes: Buffer) => boolean} fits
   */
  cutAfter(fits) {
    const asked = new WeakSet();
    this.proxy.watch = (direction, bytes, pair) => {
      if (direction === 'up') {
        if (fits(bytes)) asked.add(pair);
        return true;
      }
      if (!asked.has(pair)) return true;
      setImmediate(() => this.proxy.cut([pair]));
      return false;
    };
  }

  /** Everything passes again. What was swallowed is reset: nobody keeps bytes for a day. */
  heal() {
    this.proxy.watch = undefined;
    this.proxy.refusing = false;
    this.proxy.lag = 0;
    this.proxy.rate = Infinity;
    this.proxy.lift();
    this.proxy.cut([...(this.dark ?? []), ...(this.halved ?? [])].filter((pair) => this.proxy.pairs.has(pair)));
    this.dark = undefined;
    this.halved = undefined;
  }

  close() {
    this.proxy.close();
  }
}
