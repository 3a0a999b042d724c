// A web application as people have it: Express, express-session, and logins in Redis by connect-redis.
import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { createClient } from 'redis';
import { remember } from './canaries.js';
import { freePort } from './ports.js';

export class Shop {
  /** @param {{ redis: string, secret: string | string[], prefix?: string, name?: string, maxAge?: number, page?: string }} what */
  static async start({ redis, secret, prefix, name, maxAge, page = '' }) {
    const shop = new Shop();
    shop.client = createClient({ url: redis });
    // It comes back by itself.
    shop.client.on('error', () => {});
    await shop.client.connect();
    const app = express();
    app.use(session({
      store: new RedisStore({ client: shop.client, ...(prefix && { prefix }) }),
      secret, name, resave: false, saveUninitialized: false, cookie: { maxAge },
    }));
    app.get('/login/:user', (request, response) => {
      const { user } = request.params;
      request.session.user = { id: /^\d+$/.test(user) ? Number(user) : user };
      response.json({});
    });
    app.get('/visit', (request, response) => {
      request.session.cart = ['bell'];
      response.json({});
    });
    app.get('/logout', (request, response) => request.session.destroy(() => response.json({})));
    app.get('/', (request, response) => response.type('html').send(page));
    const port = await freePort();
    shop.url = `http://127.0.0.1:${port}`;
    await new Promise((resolve) => { shop.server = app.listen(port, '127.0.0.1', resolve); });
    return shop;
  }

  /** Asks as a browser would, and gives the cookie it has then. */
  async ask(path, cookie) {
    const answer = await fetch(`${this.url}${path}`, { headers: cookie ? { cookie } : {} });
    await answer.text();
    const set = answer.headers.getSetCookie().map((text) => text.split(';')[0]).at(-1);
    const value = set?.slice(set.indexOf('=') + 1);
    // As it is sent, as it is meant, and its parts: the login's id and the signature.
    if (value) for (const text of [value, decodeURIComponent(value), ...decodeURIComponent(value).slice(2).split('.')]) remember('cookie', text);
    return set ?? cookie;
  }

  async kill() {
    this.server.closeAllConnections();
    await new Promise((resolve) => { this.server.close(resolve); });
    this.client.destroy();
  }
}
