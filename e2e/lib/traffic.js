// What goes on in an installation on any day: clients of both transports who listen, publish, come and go, and producers,
// right and wrong.
import { Listener } from './listener.js';
import { post } from './producer.js';
import { until } from './until.js';

export class Traffic {
  /** @type {Listener[]} */
  clients = [];

  stopped = false;

  /** Begins and goes on until it is stopped; comes back when all clients are settled. */
  static async begin({ gateways, ingest, headers, size }) {
    const traffic = new Traffic();
    const { clients } = traffic;
    for (let number = 0; number < size; number += 1) {
      clients.push(new Listener(gateways[number % gateways.length], { rooms: ['news', `room-${number % 5}`], options: number % 4 ? { transports: ['websocket'] } : {} }));
    }
    await until('all are settled', () => clients.every((client) => client.settled), 60_000);
    let number = 0;
    const tick = () => ({ to: { room: (number += 1) % 2 ? 'news' : `room-${number % 5}` }, event: 'tick', data: { number } });
    traffic.repeat(() => post(ingest, Array.from({ length: 10 }, tick), headers), 100);
    traffic.repeat(() => post(ingest, { to: { room: 'news' }, data: 'no event: rejected' }, headers), 500);
    traffic.repeat(async () => { clients[0].socket.emit('publish', { room: 'news', event: 'said', data: 'by a client' }); }, 300);
    traffic.repeat(async () => { clients[1].socket.emit('join', { room: 'aside', presence: true }, () => clients[1].socket.emit('leave', { room: 'aside' })); }, 300);
    // Somebody who comes and goes.
    traffic.repeat(async () => {
      const guest = new Listener(gateways[0], { rooms: ['news'], options: { transports: ['websocket'], reconnection: false } });
      await until('the guest is in', () => guest.settled, 5_000).finally(() => guest.close());
    }, 500);
    return traffic;
  }

  /** Goes on, whatever the answers are. */
  async repeat(work, pause) {
    while (!this.stopped) {
      await work().catch(() => {});
      await new Promise((resolve) => { setTimeout(resolve, pause); });
    }
  }

  stop() {
    this.stopped = true;
    this.clients.forEach((client) => client.close());
  }
}
