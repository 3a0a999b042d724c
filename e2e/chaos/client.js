// A stock client with the lines of the client guide, taken from the page and run, and the log of what it got.
import { io as stock } from 'socket.io-client';
import { remember } from '../lib/canaries.js';
import { blocks, page } from '../lib/guide.js';

const [lines] = blocks(page('clients.md'), '## Missing nothing: the four lines', 'js');
const begin = new Function('io', 'url', 'token', `${lines}\nreturn { since, socket };`);

export class Client {
  /**
   * @param {import('./log.js').Log} log
   * @param {string} name
   * @param {{ link: import('./link.js').Link, gateway: () => string, rooms: string[], options?: object }} what `gateway`:
   *   who is at the other end of the link
   */
  constructor(log, name, { link, gateway, rooms, options = {} }) {
    this.log = log;
    this.name = name;
    this.link = link;
    this.gateway = gateway;
    this.rooms = rooms;
    /** room → number of the last message that came. */
    this.last = new Map();
    this.received = 0;
    /** How often it was told where it is in a room. */
    this.told = 0;
    this.since = {};
    const impatient = { forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 400, timeout: 3_000, transports: ['websocket'], ...options };
    const io = (to, asked) => {
      const socket = stock(to, { ...impatient, ...asked });
      // Before the lines have changed what they know.
      socket.on('cursors', (rooms) => this.#told(rooms));
      return socket;
    };
    const { since, socket } = begin(io, `http://127.0.0.1:${link.port}`, undefined);
    this.since = since;
    this.socket = socket;
    socket.onAny((event, data, meta) => { if (meta?.room && data?.n) this.#got(data, meta); });
    socket.on('connect', () => this.#connected());
    socket.on('disconnect', (reason) => this.log.add('disconnected', { client: this.name, reason }));
    socket.on('connect_error', (error) => {
      // A stock client that was refused does not come back by itself.
      if (!socket.active) this.log.add('refused', { client: this.name, code: error.message });
    });
  }

  #connected() {
    remember('engine-id', this.socket.io.engine.id.split('.').at(-1));
    this.log.add('connected', { client: this.name, gateway: this.gateway() });
    for (const room of this.rooms) if (!this.since[room]) this.join(room);
  }

  #told(rooms) {
    for (const [room, place] of Object.entries(rooms)) {
      if (!place?.offset) continue;
      this.log.add('told', { client: this.name, room, before: this.since[room], offset: place.offset, recovered: place.recovered });
      this.told += 1;
    }
  }

  #got({ n }, { room, id, offset }) {
    this.received += 1;
    this.last.set(room, n);
    this.log.add('got', { client: this.name, room, n, id, offset });
  }

  #asks = 0;

  /** Asks for something, and logs whether and when that was answered. Nobody has to wait for it. */
  ask(what, body) {
    const key = `${this.name} ${what} ${(this.#asks += 1)}`;
    if (!this.socket.connected) return Promise.resolve(undefined);
    this.log.add('asked', { client: this.name, key, what });
    return new Promise((resolve) => {
      // What was asked on a connection that is lost is not answered on the next.
      const lost = () => { this.log.add('answered', { key, ok: false, code: 'disconnected' }); resolve(undefined); };
      this.socket.once('disconnect', lost);
      this.socket.emit(what, body, (answer) => {
        this.socket.off('disconnect', lost);
        this.log.add('answered', { key, ok: answer.ok, code: answer.error?.code });
        resolve(answer);
      });
    });
  }

  join(room) {
    return this.ask('join', { room });
  }

  /** Asks for something that is not audited; comes back when it is answered, or after a second. */
  emit(what, body) {
    return new Promise((resolve) => { this.socket.timeout(1_000).emit(what, body, () => resolve()); });
  }

  get settled() {
    return this.socket.connected && this.rooms.every((room) => this.since[room]);
  }

  /** Goes away, as a phone does, and keeps its cursors. */
  leave() {
    this.log.add('left', { client: this.name });
    this.socket.disconnect();
  }

  return() {
    this.log.add('returned', { client: this.name });
    this.socket.connect();
  }

  close() {
    this.socket.close();
    this.link.close();
  }
}
