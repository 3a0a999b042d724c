// Clients in several languages that keep cursors with the lines of the client guide: taken from the page, and run.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { blocks, page } from './guide.js';
import { Record } from './listener.js';
import { python } from './python.js';
import { classpath } from './stock.js';

const clients = path.resolve(import.meta.dirname, '../clients');
const artifacts = path.resolve(import.meta.dirname, '../.artifacts');
const guide = (language, number = 0) => blocks(page('clients.md'), '## Missing nothing: the four lines', language)[number];

const kinds = {
  'JavaScript, socket.io-client 4': { lines: guide('js'), around: 'javascript/cursors.js', command: [process.execPath], more: ['socket.io-client'] },
  'JavaScript, socket.io-client 2': { lines: guide('js', 1), around: 'javascript/cursors.js', command: [process.execPath], more: ['socket.io-client-2'] },
  'Python, AsyncClient': { lines: guide('python'), around: 'python/cursors.py', command: [python] },
  Java: { lines: guide('java'), around: 'java/cursors/CursorLines.java', command: ['java', '-XX:TieredStopAtLevel=1', '-cp', classpath] },
};
export const languages = Object.keys(kinds);

/** Puts the guide's lines into the program around them, and gives the file. */
function written(language) {
  const { lines, around } = kinds[language];
  const program = fs.readFileSync(path.join(clients, around), 'utf8');
  const [, indent] = /^( *)(?:\/\/|#) THE LINES$/m.exec(program);
  const indented = lines.replace(/^(?=.)/gm, indent);
  const folder = path.join(artifacts, `cursors-${languages.indexOf(language)}`);
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, path.basename(around));
  fs.writeFileSync(file, program.replace(/^.*THE LINES$/m, () => indented));
  return file;
}

const open = new Set();
after(() => open.forEach((client) => client.close()));

/** A client with the guide's lines in a process of its own. */
export class CursorClient extends Record {
  /**
   * @param {string} language one of `languages`
   * @param {{ url: string, token: string, transports?: string[], rooms: string[] }} what
   */
  constructor(language, { url, token, transports, rooms }) {
    super();
    open.add(this);
    this.connected = false;
    this.connects = 0;
    this.disconnects = 0;
    /** Where it is in each room, as the lines should know it too. */
    this.since = {};
    this.errors = '';
    const { command: [command, ...flags], more = [] } = kinds[language];
    const options = [url, token, JSON.stringify(transports ?? null), JSON.stringify(rooms), ...more];
    this.process = spawn(command, [...flags, written(language), ...options], { env: { ...process.env, PYTHONPATH: path.join(clients, 'python') } });
    this.process.stderr.on('data', (bytes) => { this.errors += bytes; });
    createInterface({ input: this.process.stdout }).on('line', (line) => this.take(JSON.parse(line)));
  }

  take({ connected, disconnected, cursors, heard, since }) {
    if (connected) {
      this.connected = true;
      this.connects += 1;
    }
    if (disconnected) {
      this.connected = false;
      this.disconnects += 1;
    }
    for (const [room, place] of Object.entries(cursors ?? {})) {
      if (place?.offset) {
        this.told(room, this.since[room], place);
        this.since[room] = place.offset;
      } else {
        delete this.since[room];
      }
    }
    if (heard) {
      this.received.push(heard);
      this.since[heard.room] = heard.offset;
    }
    // What the lines themselves say.
    if (since) this.kept = since;
  }

  ask(what) {
    this.process.stdin.write(`${JSON.stringify(what)}\n`);
  }

  close() {
    open.delete(this);
    this.process.kill('SIGKILL');
  }
}
