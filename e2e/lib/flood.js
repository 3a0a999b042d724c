// A sender of lines that does not care whether anybody reads them, and what of them was really taken.
import fs from 'node:fs';
import net from 'node:net';
import { after } from 'node:test';

// A test that fails leaves its sender behind; it must not keep its process.
const open = new Set();
after(() => open.forEach((socket) => socket.destroy()));

/** Bytes handed to the kernel at a time. */
const PIECE = 64 << 10;

/**
 * Bytes that the kernel holds between two ends of a connection on this machine: those that wait to be sent, and those
 * that came and were not read.
 */
function between(from, to) {
  const port = (address) => Number.parseInt(address.split(':')[1], 16);
  const queue = (local, remote, end) => {
    const found = fs.readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1, -1).map((line) => line.trim().split(/\s+/))
      .find((fields) => port(fields[1]) === local && port(fields[2]) === remote);
    if (!found) throw new Error(`no connection from port ${local} to port ${remote}`);
    return Number.parseInt(found[4].split(':')[end], 16);
  };
  return queue(from, to, 0) + queue(to, from, 1);
}

export class Flood {
  /**
   * Opens a stream of lines to ingest and sends them all; reads nothing before it is told to.
   * @param {string} url of ingest
   * @param {string} body whole lines
   */
  constructor(url, body) {
    this.bytes = Buffer.from(body);
    /** Bytes of lines that the kernel has, or had. */
    this.sent = 0;
    this.text = '';
    const { hostname, port } = new URL(url);
    this.port = Number(port);
    this.socket = net.connect({ port: this.port, host: hostname });
    open.add(this.socket);
    this.socket.setEncoding('utf8').pause();
    this.socket.on('error', (error) => { this.error = error; });
    this.written = this.write();
  }

  hand(bytes) {
    return new Promise((resolve) => { this.socket.write(bytes, resolve); });
  }

  async write() {
    await this.hand(`POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\ncontent-length: ${this.bytes.length}\r\n\r\n`);
    for (let at = 0; at < this.bytes.length && !this.error; at = this.sent) {
      const piece = this.bytes.subarray(at, at + PIECE);
      await this.hand(piece);
      this.sent = at + piece.length;
    }
  }

  /** Bytes of lines that the other end took out of its socket, to within a piece and what is on its way. */
  get taken() {
    return this.sent + PIECE - between(this.socket.localPort, this.port);
  }

  /**
   * Waits until nothing is taken any more. `ask` is answered by the other end, so each time it has had its turn.
   * @param {() => Promise<unknown>} ask
   */
  async stuck(ask) {
    let last;
    for (let same = 0; same < 500;) {
      await ask();
      const now = `${this.sent} ${this.taken}`;
      same = this.sent > 0 && now === last ? same + 1 : 0;
      last = now;
      if (this.sent === this.bytes.length) return;
    }
  }

  /** Reads from now on, and gives all answers when they have come. */
  async answers() {
    const ended = new Promise((resolve) => { this.socket.once('close', resolve); });
    this.socket.on('data', (text) => { this.text += text; });
    this.socket.resume();
    await this.written;
    await ended;
    open.delete(this.socket);
    // Each chunk has its length on a line of its own.
    return this.text.split('\r\n').flatMap((part) => part.split('\n')).filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  }
}
