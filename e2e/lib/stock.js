// Stock clients in programs of their own, one per library, so that one scenario can be played by all of them.
//
// A program is started as `PROGRAM URL OPTIONS`, where OPTIONS is JSON: `{ transports?, auth?, events }`. It connects, and
// tells each of these events. It is asked and tells in lines of JSON; bytes are `{ "$bytes": base64 }`.
//
//   in   { ask: 1, event, data }          emit this and tell what is acknowledged
//   out  { ask: 1, answer }               that
//        { event, args }                  an event came; it is acknowledged where the server asks for that
//        { connected: id } { disconnected: reason } { refused: text }
import { spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { Proxy } from './proxy.js';
import { python } from './python.js';
import { until } from './until.js';

const clients = path.resolve(import.meta.dirname, '../clients');
/** Where the Java libraries are, and what is compiled of ours. */
export const classpath = ['target/classes', 'target/dependency/*'].map((part) => path.join(clients, 'java', part)).join(':');

export const libraries = {
  'socket.io-client 4': [process.execPath, path.join(clients, 'javascript/stock.js'), '4'],
  'socket.io-client 2': [process.execPath, path.join(clients, 'javascript/stock.js'), '2'],
  'python-socketio Client': [python, path.join(clients, 'python/stock.py')],
  'python-socketio AsyncClient': [python, path.join(clients, 'python/stock_async.py')],
  'io.socket:socket.io-client': ['java', '-XX:TieredStopAtLevel=1', '-cp', classpath, 'Stock'],
};

// This one starts a thread for each packet, and threads overtake each other, also the bytes of a message its text. That
// is the library's way, whatever the server; so nothing of its order can be asked for, and no bytes.
export const threaded = 'python-socketio Client';

const open = new Set();
after(() => open.forEach((client) => client.close()));

const real = (name, value) => (value?.$bytes === undefined ? value : Buffer.from(value.$bytes, 'base64'));
// Before JSON.stringify asks a Buffer what it is.
const plain = (data) => {
  if (Buffer.isBuffer(data)) return { $bytes: data.toString('base64') };
  return Buffer.isBuffer(data?.data) ? { ...data, data: plain(data.data) } : data;
};

/** A client in a process of its own, and what it asks for on the wire. */
export class StockClient {
  /**
   * @param {string} library one of `libraries`
   * @param {number} port the gateway's
   * @param {{ transports?: string[], auth?: object, events?: string[] }} options
   */
  static async start(library, port, { events = [], ...options } = {}) {
    const client = new StockClient();
    open.add(client);
    /** All it told, in order. */
    client.told = [];
    /** Its HTTP requests: `{ method, transport, sid }`. */
    client.requests = [];
    client.asked = 0;
    client.errors = '';
    client.proxy = await Proxy.start(port);
    client.proxy.watch = (direction, bytes) => client.watch(direction, bytes);
    const [command, ...args] = libraries[library];
    client.process = spawn(command, [...args, client.proxy.url, JSON.stringify({ events, ...options })]);
    client.process.stderr.on('data', (bytes) => { client.errors += bytes; });
    client.process.on('error', (error) => { client.errors += error; });
    createInterface({ input: client.process.stdout }).on('line', (line) => client.told.push(JSON.parse(line, real)));
    return client;
  }

  watch(direction, bytes) {
    const [, method, query] = /^(GET|POST) \/socket\.io\/\?(\S+) HTTP/.exec(bytes.toString('latin1', 0, 2_000)) ?? [];
    if (direction !== 'up' || !method) return;
    const asked = new URLSearchParams(query);
    this.requests.push({ method, transport: asked.get('transport'), sid: asked.get('sid') });
  }

  /** Waits until it told something that fits. */
  tells(what, fits) {
    return until(`${what}; it said: ${this.errors}`, () => this.told.find(fits), 60_000);
  }

  connected() {
    return this.tells('connected', ({ connected }) => connected);
  }

  /** Emits, and gives what was acknowledged. */
  async ask(event, data) {
    this.asked += 1;
    const ask = this.asked;
    this.process.stdin.write(`${JSON.stringify({ ask, event, data: plain(data) })}\n`);
    return (await this.tells(`${event} is answered`, (line) => line.ask === ask)).answer;
  }

  /** What came under an event's name. */
  heard(event) {
    return this.told.filter((line) => line.event === event).map(({ args }) => args);
  }

  polls(method) {
    return this.requests.filter((request) => request.transport === 'polling' && (!method || request.method === method)).length;
  }

  websockets() {
    return this.requests.filter((request) => request.transport === 'websocket');
  }

  close() {
    open.delete(this);
    this.process.kill('SIGKILL');
    this.proxy.close();
  }
}
