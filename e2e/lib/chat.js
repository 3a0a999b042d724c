// The chat of apps/, as it was on Socket.IO with the Redis adapter and as it is on Carillon: started, and its people.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { Balancer } from './balancer.js';
import { freePort } from './ports.js';
import { Child, Service } from './processes.js';
import { Proxy } from './proxy.js';
import { until } from './until.js';

const apps = path.resolve(import.meta.dirname, '../apps');
const key = 'key of the chat';
const secret = 'what the chat signs tokens with';

/** Starts a process of the application, and gives its address. */
async function serve(app, children, ...settings) {
  const port = await freePort();
  const child = new Child(`${app}-${port}`, process.execPath, [path.join(apps, app, 'server.js'), `${port}`, ...settings]);
  children.push(child);
  await until(`${child.name} listens; its log: ${child.log}`, () => child.output().includes('listening'));
  return `http://127.0.0.1:${port}`;
}

async function work(app, ...settings) {
  await promisify(execFile)(process.execPath, [path.join(apps, app, 'worker.js'), ...settings], { timeout: 60_000 });
}

/**
 * Two processes, each with Socket.IO in it. A client stays with the one it found: without sticky sessions in front,
 * requests of one session may not go to different ones.
 */
export async function chatBefore(redis, children) {
  const servers = [await serve('chat-before', children, redis.url), await serve('chat-before', children, redis.url)];
  const { Chat } = await import('../apps/chat-before/client.js');
  return { Chat, servers, push: (n) => servers[n % servers.length], news: (text) => work('chat-before', redis.url, text) };
}

/** Two processes of the application, and two gateways behind a balancer that knows nothing of sessions. */
export async function chatAfter(redis, children) {
  const settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: path.join(apps, 'chat-after/policy.yaml'),
    CARILLON_IDENTITY__HS256_SECRET: secret,
    CARILLON_GATEWAY__FORWARDING__SECRET: 'what the gateways know',
  };
  const services = {};
  for (const kind of ['gateway', 'gateway', 'dispatcher', 'ingest']) {
    const service = await Service.start(kind, settings);
    children.push(service);
    (services[kind] ??= []).push(service);
  }
  const [{ ingest }] = services.ingest;
  const balancer = await Balancer.start(services.gateway.map(({ gatewayPort }) => gatewayPort));
  children.push({ kill: () => balancer.close() });
  const servers = [await serve('chat-after', children, redis.url, ingest, key, secret), await serve('chat-after', children, redis.url, ingest, key, secret)];
  const { Chat } = await import('../apps/chat-after/client.js');
  return { Chat, servers, push: () => balancer.url, news: (text) => work('chat-after', ingest, key, text) };
}

/** Somebody with a browser: a login cookie, the page's code, and what it heard. Connections can be cut. */
export class Person {
  static async at(chat, n, user, { staff = false, login = true } = {}) {
    const person = new Person();
    person.heard = [];
    person.server = chat.servers[n % chat.servers.length];
    if (login) await person.login({ id: user, staff });
    person.proxy = await Proxy.start(Number(new URL(chat.push(n)).port));
    const headers = { cookie: person.cookie ?? '' };
    const ask = (path, body) => person.ask(path, body);
    person.chat = new chat.Chat({ push: person.proxy.url, user, headers, ask, hear: (event, data) => person.heard.push([event, data]) });
    person.socket = person.chat.socket;
    return person;
  }

  async login(user) {
    const answer = await fetch(`${this.server}/login`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(user) });
    this.cookie = answer.headers.getSetCookie()[0].split(';')[0];
  }

  async ask(path, body) {
    const headers = { 'content-type': 'application/json', cookie: this.cookie ?? '' };
    const answer = await fetch(`${this.server}${path}`, { headers, ...(body && { method: 'POST', body: JSON.stringify(body) }) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer.json();
  }

  of(event) {
    return this.heard.filter(([name]) => name === event).map(([, data]) => data);
  }

  hears(event, fits) {
    return until(`${event} is heard`, () => this.of(event).find(fits));
  }

  leave() {
    this.socket.close();
    this.proxy.close();
  }
}
