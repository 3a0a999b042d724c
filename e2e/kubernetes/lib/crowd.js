// Clients with cursors, a producer that does not stop, and the audit of what was promised.
import assert from 'node:assert/strict';
import { Listener } from '../../lib/listener.js';
import { Producer } from '../../lib/producer.js';
import { until } from '../../lib/until.js';

export const ROOM = 'crowd';
/** Deliveries a second to the whole crowd: what one process of clients can take while it does other things. */
const DELIVERIES = 20_000;

export class Crowd {
  /** @param {string} gateway @param {number} size */
  static async gather(gateway, size) {
    const crowd = new Crowd();
    crowd.connects = [];
    /** Why clients lost their connection → how often. */
    crowd.reasons = new Map();
    crowd.clients = [];
    // In the default way of a client, polling first; in small groups, as a ready cluster would meet them.
    for (let from = 0; from < size; from += 25) {
      const group = Array.from({ length: Math.min(25, size - from) }, () => new Listener(gateway, {
        rooms: [ROOM], options: { reconnectionDelay: 200, reconnectionDelayMax: 1_000 },
      }));
      for (const { socket } of group) {
        socket.on('connect', () => crowd.connects.push(performance.now()));
        socket.on('disconnect', (reason) => crowd.reasons.set(reason, (crowd.reasons.get(reason) ?? 0) + 1));
      }
      crowd.clients.push(...group);
      await until('a group is settled', () => group.every((client) => client.settled), 120_000);
    }
    crowd.connects.length = 0;
    return crowd;
  }

  /** Begins to send, one message after the other, at a rate that fits the crowd. */
  listenTo(ingest, key) {
    this.producer = new Producer(ingest, { authorization: `Bearer ${key}` });
    this.stopped = false;
    const pause = (1_000 * this.clients.length) / DELIVERIES;
    this.flow = (async () => {
      for (let number = 0; !this.stopped; number += 1) {
        await this.producer.send({ to: { room: ROOM }, event: 'tick', data: number });
        await new Promise((resolve) => { setTimeout(resolve, pause); });
      }
    })();
    return until('messages flow', () => this.clients[0].of(ROOM).length > 3, 60_000);
  }

  /** Ends the load; everybody must have everything, once and in order. */
  async audit() {
    this.stopped = true;
    await this.flow;
    const { accepted } = this.producer;
    assert.ok(accepted.length > 0, 'messages flowed');
    const { offset } = accepted.at(-1);
    for (const [number, client] of this.clients.entries()) {
      await until(`client ${number} has the last message`, () => client.of(ROOM).at(-1)?.offset === offset, 120_000);
      assert.deepEqual(client.audit(accepted, [ROOM]), [], `client ${number}`);
    }
  }

  /** Clients by the gateway that has their session, as its id says. */
  homes() {
    const homes = {};
    for (const client of this.clients) (homes[client.socket.io.engine.id.split('.')[0]] ??= []).push(client);
    return homes;
  }

  /** Some go home. What they got until then must be in order, too. */
  leave(clients) {
    this.clients = this.clients.filter((client) => !clients.includes(client));
    for (const client of clients) {
      client.close();
      assert.deepEqual(client.audit([], [ROOM]), [], 'one that went home');
    }
  }

  /** The most connects per second, over any so many seconds since the crowd stood. */
  busiest(seconds) {
    let most = 0;
    for (let first = 0, last = 0; last < this.connects.length; last += 1) {
      while (this.connects[last] - this.connects[first] >= seconds * 1_000) first += 1;
      most = Math.max(most, last - first + 1);
    }
    return most / seconds;
  }

  disperse() {
    this.stopped = true;
    this.clients.forEach((client) => client.close());
  }
}
