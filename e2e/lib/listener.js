// A client with the four cursor lines of the client guide, and the audit of what it was promised.
import { after } from 'node:test';
import { io } from 'socket.io-client';
import { remember } from './canaries.js';
import { compare } from './offsets.js';

// A test that fails leaves its clients behind; they must not keep its process.
const open = new Set();
after(() => open.forEach((client) => client.close()));

/** What a client got and was told, and the audit of it. */
export class Record {
  received = [];
  gaps = [];

  told(room, before, { offset, recovered }) {
    if (!before || !recovered) this.gaps.push({ room, above: before, upto: offset });
  }

  /**
   * Where it was told that something may be missing above a place it had. Where history reaches back far enough and
   * Redis lost nothing, there are none: completeness can be proved. (Who has no place yet can't miss anything.)
   */
  get holes() {
    return this.gaps.filter((gap) => gap.above);
  }

  of(room) {
    return this.received.filter((message) => message.room === room);
  }

  /**
   * Everything that is wrong with what it got.
   * @param {{ id: string, room: string, offset: string }[]} accepted what producers know to be kept
   * @param {string[]} rooms the rooms it was in all the time
   */
  audit(accepted, rooms) {
    const wrong = [];
    const seen = new Set();
    const last = {};
    for (const { id, room, offset } of this.received) {
      const key = `${room} ${id}`;
      if (seen.has(key)) wrong.push(`twice: ${key}`);
      seen.add(key);
      if (last[room] && compare(offset, last[room]) <= 0) wrong.push(`order: ${room} ${offset} after ${last[room]}`);
      last[room] = offset;
    }
    for (const { id, room, offset } of accepted) {
      if (!rooms.includes(room) || seen.has(`${room} ${id}`)) continue;
      const told = this.gaps.some((gap) => gap.room === room && (!gap.above || compare(offset, gap.above) > 0) && compare(offset, gap.upto) <= 0);
      if (!told) wrong.push(`lost: ${room} ${offset}`);
    }
    for (const gap of this.gaps) {
      if (!gap.above || !rooms.includes(gap.room)) continue;
      const hides = accepted.some(({ id, room, offset }) => room === gap.room && compare(offset, gap.above) > 0 && compare(offset, gap.upto) <= 0 && !seen.has(`${room} ${id}`));
      if (!hides) wrong.push(`needless false: ${gap.room} from ${gap.above} to ${gap.upto}`);
    }
    return wrong;
  }
}

export class Listener extends Record {
  /**
   * @param {string} url
   * @param {{ rooms?: string[], options?: object, token?: string }} [what]
   */
  constructor(url, { rooms = [], options = {}, token } = {}) {
    super();
    this.rooms = rooms;
    this.notes = [];
    this.connects = 0;
    this.disconnects = 0;
    // The four lines.
    const since = {};
    const socket = io(url, { auth: (cb) => cb({ token, since }), reconnectionDelay: 50, reconnectionDelayMax: 200, forceNew: true, ...options });
    this.socket = socket;
    open.add(this);
    this.since = since;
    socket.on('cursors', (notes) => {
      for (const room in notes) {
        if (notes[room]?.offset) this.told(room, since[room], notes[room]);
        this.notes.push([room, notes[room]]);
      }
      for (const r in notes) notes[r] ? since[r] = notes[r].offset : delete since[r];
    });
    socket.onAny((event, data, meta) => {
      if (meta?.room) {
        this.received.push({ event, data, ...meta });
        since[meta.room] = meta.offset;
      }
    });
    socket.on('disconnect', () => { this.disconnects += 1; });
    socket.on('connect', () => {
      this.connects += 1;
      // Whoever knows it can speak for the client.
      remember('engine-id', socket.io.engine.id.split('.').at(-1));
      // Rooms it has a cursor for are joined again by themselves.
      for (const room of rooms) if (!since[room]) socket.emit('join', { room }, () => {});
    });
  }

  get connected() {
    return this.socket.connected;
  }

  /** Connected, and told where it is in all its rooms. */
  get settled() {
    return this.socket.connected && ['all', ...this.rooms].every((room) => this.since[room]);
  }

  close() {
    open.delete(this);
    this.socket.close();
  }
}
