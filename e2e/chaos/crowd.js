// The clients of a run: a known number, each in two rooms, spread over the gateways; and at each gateway one that joins
// room after room, to see that it is answered.
import { until } from '../lib/until.js';
import { Client } from './client.js';
import { Link } from './link.js';

/** Milliseconds between two joins. */
const JOIN = 500;
/** So many clients come at a time: the ways of services lead through this process as well, and must not stand still for long. */
const GROUP = 200;

export class Crowd {
  clients = [];
  joiners = [];
  #timers = [];

  /**
   * @param {import('./log.js').Log} log
   * @param {import('./fleet.js').Fleet} fleet
   * @param {{ clients: number, rooms: string[], options?: (n: number) => object, direct?: boolean }} what `direct`: without a link
   *   for each, which takes three more descriptors of this process
   */
  static async gather(log, fleet, { clients, rooms, options = () => ({}), direct = false }) {
    const crowd = new Crowd();
    Object.assign(crowd, { log, fleet, rooms });
    for (let n = 0; n < clients; n += 1) {
      crowd.clients.push(await crowd.client(`client-${n}`, { home: fleet.of('gateway')[n % fleet.of('gateway').length], rooms: [rooms[n % rooms.length], rooms[(n + 1) % rooms.length]], options: options(n), direct }));
      if (crowd.clients.length % GROUP === 0) await crowd.#settled();
    }
    await crowd.#settled();
    for (const gateway of fleet.of('gateway')) crowd.#join(await crowd.client(`joiner-${gateway}`, { home: gateway, strict: true }));
    return crowd;
  }

  #settled() {
    return until('all clients are settled', () => this.clients.every((client) => client.settled), 60_000);
  }

  /**
   * A client by a link of its own; `strict`: it goes nowhere but home; `direct`: so does this one, and has no link; `log`: another, if
   * nobody is to judge it.
   */
  async client(name, { home, strict = false, direct = false, rooms = [], options = {}, log = this.log }) {
    if (direct) return new Client(log, name, { link: { port: this.fleet.get(home).gatewayPort, close() {} }, gateway: () => home, rooms, options });
    let at = home;
    const link = await Link.to(() => {
      at = strict ? home : this.fleet.pick('gateway', home);
      return this.fleet.get(at).gatewayPort;
    });
    return new Client(log, name, { link, gateway: () => at, rooms, options });
  }

  #join(client) {
    this.joiners.push(client);
    let n = 0;
    this.#timers.push(setInterval(async () => {
      n += 1;
      const room = `fresh-${client.name}-${n}`;
      // Else it would be in too many some time.
      if ((await client.join(room))?.ok) client.ask('leave', { room });
    }, JOIN));
  }

  /** A third of the clients, the same ones each time. */
  get third() {
    return this.clients.filter((_, n) => n % 3 === 0);
  }

  /** Clients that nobody took away. */
  get present() {
    return this.clients.filter((client) => !client.gone);
  }

  /** Clients go away, and keep their cursors. */
  leave(clients) {
    for (const client of clients) {
      client.gone = true;
      client.leave();
    }
  }

  return(clients) {
    for (const client of clients) {
      client.gone = false;
      client.return();
    }
  }

  /** Asks no more for rooms. */
  rest() {
    this.#timers.forEach(clearInterval);
    this.#timers = [];
  }

  close() {
    this.rest();
    [...this.clients, ...this.joiners].forEach((client) => client.close());
  }
}
