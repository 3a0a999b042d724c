// What was sent and what became of it, and what each client got and was told, out of the log.
import { compare } from '../../lib/offsets.js';

/** @typedef {{ room: string, n: number, outcome: string, offset?: string, id?: string, at: number, answered: number }} Sent */
/** @typedef {{ client: string, room: string, base: string | undefined, got: object[], told: object[], events: object[] }} Seat */

export class Ledger {
  constructor(events) {
    /** room → messages in the order they were sent @type {Map<string, Sent[]>} */
    this.sent = new Map();
    /** A client in a room. @type {Seat[]} */
    this.seats = [];
    /** room → what the server holds at the end: `{ offsets, oldest }` */
    this.held = new Map();
    /** When everything was deleted. @type {number[]} */
    this.flushed = [];
    const seats = new Map();
    const seat = ({ client, room }) => {
      const key = `${client} ${room}`;
      if (!seats.has(key)) {
        seats.set(key, { client, room, got: [], told: [], events: [] });
        this.seats.push(seats.get(key));
      }
      return seats.get(key);
    };
    for (const event of events) {
      if (event.kind === 'sent') {
        if (!this.sent.has(event.room)) this.sent.set(event.room, []);
        this.sent.get(event.room).push(event);
      }
      if (event.kind === 'got') {
        seat(event).got.push(event);
        seat(event).events.push(event);
      }
      if (event.kind === 'told') {
        const { told, events: both } = seat(event);
        told.push(event);
        both.push(event);
        // What is above where it began is owed to it.
        seat(event).base ??= event.offset;
      }
      if (event.kind === 'flushed') this.flushed.push(event.at);
      if (event.kind === 'held') {
        const offsets = [...event.offsets].sort(compare);
        this.held.set(event.room, { offsets: new Set(offsets), oldest: offsets[0], bounded: event.bounded ?? false });
      }
    }
  }

  #accepted = new Map();

  accepted(room) {
    if (!this.#accepted.has(room)) this.#accepted.set(room, (this.sent.get(room) ?? []).filter(({ outcome }) => outcome === 'accepted'));
    return this.#accepted.get(room);
  }

  /** Whether the server holds a message at the end; `undefined` where its history does not reach back so far. */
  holds({ room, offset }) {
    const held = this.held.get(room);
    if (!held) return undefined;
    if (held.offsets.has(offset)) return true;
    return held.bounded && (!held.oldest || compare(offset, held.oldest) < 0) ? undefined : false;
  }
}
