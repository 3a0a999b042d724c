// An issuer that serves its keys, changes them, and goes away.
import http from 'node:http';
import { freePort } from './ports.js';

export class Issuer {
  static async start() {
    const issuer = new Issuer();
    issuer.signers = [];
    issuer.fetches = 0;
    issuer.port = await freePort();
    await issuer.come();
    return issuer;
  }

  get url() {
    return `http://127.0.0.1:${this.port}/.well-known/jwks.json`;
  }

  async come() {
    this.server = http.createServer((request, response) => {
      this.fetches += 1;
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ keys: this.signers.map(({ jwk }) => jwk) }));
    });
    await new Promise((resolve) => { this.server.listen(this.port, '127.0.0.1', resolve); });
  }

  async leave() {
    const closed = new Promise((resolve) => { this.server.close(resolve); });
    this.server.closeAllConnections();
    await closed;
  }
}
