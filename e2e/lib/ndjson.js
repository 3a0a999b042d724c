// An open stream of lines to ingest, over HTTP/1.1 or HTTP/2.
import http from 'node:http';
import http2 from 'node:http2';

const NDJSON = 'application/x-ndjson';

export class LineStream {
  /** @param {string} url of ingest */
  constructor(url, { headers = {}, version = 1 } = {}) {
    /** The answers so far. */
    this.lines = [];
    this.rest = '';
    const given = { 'content-type': NDJSON, ...headers };
    if (version === 2) {
      this.session = http2.connect(url);
      this.session.on('error', () => {});
      this.request = this.session.request({ ':method': 'POST', ':path': '/v1/messages', ...given });
      this.opened = new Promise((resolve) => {
        this.request.once('response', (told) => resolve({ status: told[':status'], type: told['content-type'], headers: told }));
      });
      this.read(this.request);
    } else {
      this.request = http.request(`${url}/v1/messages`, { method: 'POST', headers: given, agent: new http.Agent() });
      this.request.flushHeaders();
      this.opened = new Promise((resolve) => {
        this.request.once('response', (answer) => {
          this.read(answer);
          resolve({ status: answer.statusCode, type: answer.headers['content-type'], headers: answer.headers });
        });
      });
    }
    this.request.on('error', (error) => { this.error = error; this.finish?.(); });
    this.ended = new Promise((resolve) => { this.finish = resolve; });
  }

  read(answer) {
    answer.setEncoding('utf8');
    answer.on('data', (text) => {
      const lines = (this.rest + text).split('\n');
      this.rest = lines.pop();
      this.lines.push(...lines.map((line) => JSON.parse(line)));
    });
    answer.on('error', (error) => { this.error = error; });
    answer.once('close', () => {
      this.session?.close();
      this.finish();
    });
  }

  /** Sends messages as lines; a string is sent as it is. */
  send(...messages) {
    this.request.write(messages.map((message) => (typeof message === 'string' ? message : `${JSON.stringify(message)}\n`)).join(''));
  }

  /** Ends the body and waits for the last answer. */
  async end() {
    this.request.end();
    await this.ended;
    return this.lines;
  }
}
