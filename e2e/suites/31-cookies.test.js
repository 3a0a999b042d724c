// Cookie logins: an Express application logs people in, and the same cookie says who they are here.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { launch } from '../lib/browser.js';
import { canary, remember } from '../lib/canaries.js';
import { token } from '../lib/jwt.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { refused } from '../lib/refusal.js';
import { Shop } from '../lib/shop.js';
import { until } from '../lib/until.js';

const secret = canary('cookie-key', 'now');
const former = canary('cookie-key', 'before');
const app = 'http://app.example.com';
const children = [];
const sockets = [];
let settings;
let redis;
let store;
let shop;
let gateway;
let producer;
let folder;

const policyFile = (name, text) => {
  const file = path.join(folder, name);
  fs.writeFileSync(file, text);
  return file;
};
const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};
const connect = (to, cookie, { headers = {}, ...options } = {}) => {
  if (cookie) remember('cookie', cookie.slice(cookie.indexOf('=') + 1));
  const extraHeaders = { ...(cookie && { cookie }), ...headers };
  const socket = io(to.url, { extraHeaders, forceNew: true, transports: ['websocket'], reconnectionDelay: 50, reconnectionDelayMax: 100, ...options });
  socket.got = [];
  socket.onAny((event, data) => socket.got.push([event, data]));
  sockets.push(socket);
  return socket;
};
const connected = (socket) => until('connected', () => socket.connected);
const refusal = async (to, cookie, options) => {
  const socket = connect(to, cookie, options);
  return (await refused(socket)).message.split(':')[0];
};
const counted = (to, code) => to.metric('carillon_gateway_handshakes_refused_total', `code="${code}"`);
// As `docs/security.md` says: a user that may look at logins and nothing else.
const allowLooks = () => store.cli('ACL', 'SETUSER', 'carillon', 'on', `>${canary('redis-password', 'look')}`, '~sess:*', 'resetchannels', '-@all', '+get', '+pttl', '+info');
const hears = async (socket, user) => {
  await connected(socket);
  const data = canary('payload', `${user} ${Math.random()}`);
  await producer.send({ to: { user }, event: 'hello', data });
  await until(`${user} heard it`, () => socket.got.some(([event, got]) => event === 'hello' && got === data));
};

before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-cookies-'));
  redis = await Redis.start();
  store = await Redis.start();
  children.push({ kill: () => redis.stop() }, { kill: () => store.stop() });
  allowLooks();
  settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policyFile('policy.yaml', 'anonymous: { sessions: false, producers: true }\n'),
    CARILLON_IDENTITY__HS256_SECRET: 'for tokens',
    CARILLON_IDENTITY__COOKIE__SECRETS: `${secret},${former}`,
    CARILLON_IDENTITY__COOKIE__STORE__URL: store.url.replace('//', `//carillon:${canary('redis-password', 'look')}@`),
    CARILLON_IDENTITY__COOKIE__STORE__TIMEOUT: '500ms',
    CARILLON_IDENTITY__COOKIE__USER__PREFIX: 'shop-',
    CARILLON_GATEWAY__ORIGINS: app,
  };
  shop = await Shop.start({ redis: store.url, secret });
  children.push(shop);
  await start('dispatcher');
  gateway = await start('gateway');
  producer = new Producer((await start('ingest')).ingest);
});
after(async () => {
  sockets.forEach((socket) => socket.close());
  for (const child of children.reverse()) await child.kill();
});

test('whoever logs in at the application is the same user here', async () => {
  for (const user of ['ann', '42']) {
    const cookie = await shop.ask(`/login/${user}`);
    for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
      await hears(connect(gateway, `theme=dark; ${cookie}`, { transports }), `shop-${user}`);
    }
  }
});

test('the application changes its secret, and its logins stay', async () => {
  const old = await Shop.start({ redis: store.url, secret: former });
  children.push(old);
  await hears(connect(gateway, await old.ask('/login/ben')), 'shop-ben');
});

test('a token goes before the cookie, and a wrong one is not made good by it', async () => {
  const cookie = await shop.ask('/login/cleo');
  await hears(connect(gateway, cookie, { auth: { token: token('for tokens', { sub: 'dan' }) } }), 'dan');
  assert.equal(await refusal(gateway, cookie, { auth: { token: token('guessed', { sub: 'dan' }) } }), 'token_bad_signature');
});

test('every way to be nobody has its own code', async () => {
  assert.equal(await refusal(gateway), 'cookie_missing');
  assert.equal(await refusal(gateway, 'theme=dark'), 'cookie_missing');
  const cookie = await shop.ask('/login/eve');
  assert.equal(await refusal(gateway, `${cookie.slice(0, -3)}xyz`), 'cookie_bad_signature');
  assert.equal(await refusal(gateway, 'connect.sid=guessed'), 'cookie_bad_signature');
  const foreign = await Shop.start({ redis: store.url, secret: 'another secret' });
  children.push(foreign);
  assert.equal(await refusal(gateway, await foreign.ask('/login/eve')), 'cookie_bad_signature');
  await hears(connect(gateway, cookie), 'shop-eve');
  await shop.ask('/logout', cookie);
  assert.equal(await refusal(gateway, cookie), 'login_expired');
  assert.equal(await refusal(gateway, cookie, { transports: ['polling'] }), 'login_expired');
  const hasty = await Shop.start({ redis: store.url, secret, maxAge: 1_000 });
  children.push(hasty);
  const soon = await hasty.ask('/login/eve');
  await until('its time is over', () => store.cli('DBSIZE') && !store.cli('KEYS', `sess:${decodeURIComponent(soon).slice('connect.sid=s:'.length).split('.')[0]}`).trim());
  assert.equal(await refusal(gateway, soon), 'login_expired');
  assert.equal(await refusal(gateway, await shop.ask('/visit')), 'login_without_user');
  for (const code of ['cookie_missing', 'cookie_bad_signature', 'login_expired', 'login_without_user']) {
    assert.ok(await counted(gateway, code) > 0, code);
  }
});

test('where policy lets strangers in, visitors are strangers, and wrong cookies are wrong all the same', async () => {
  const open = await start('gateway', {
    CARILLON_POLICY__FILE: policyFile('open.yaml', 'anonymous: { sessions: true, producers: true }\n'),
  });
  await connected(connect(open));
  await connected(connect(open, await shop.ask('/visit')));
  assert.equal(await refusal(open, 'connect.sid=s%3Aguessed.xyz'), 'cookie_bad_signature');
});

test('name, prefix, pointer and place of the logins are settings', async () => {
  const other = await Shop.start({ redis: redis.url, secret, prefix: 'logins/', name: 'shop' });
  children.push(other);
  const set = await start('gateway', {
    CARILLON_IDENTITY__COOKIE__NAME: 'shop',
    CARILLON_IDENTITY__COOKIE__STORE__PREFIX: 'logins/',
    CARILLON_IDENTITY__COOKIE__STORE__URL: '',
    CARILLON_IDENTITY__COOKIE__USER__POINTER: '/user',
    CARILLON_IDENTITY__COOKIE__USER__PREFIX: '',
  });
  const cookie = await other.ask('/login/finn');
  assert.equal(await refusal(set, cookie), 'login_without_user', 'an object is no user');
  const right = await start('gateway', {
    CARILLON_IDENTITY__COOKIE__NAME: 'shop',
    CARILLON_IDENTITY__COOKIE__STORE__PREFIX: 'logins/',
    CARILLON_IDENTITY__COOKIE__STORE__URL: '',
    CARILLON_IDENTITY__COOKIE__USER__PREFIX: '',
  });
  await hears(connect(right, cookie), 'finn');
});

test('pages of foreign origins are refused, listed ones may send their cookies', async () => {
  const cookie = await shop.ask('/login/gil');
  const evil = { origin: 'http://evil.example.com' };
  for (const transports of [['websocket'], ['polling']]) {
    const socket = connect(gateway, cookie, { headers: evil, transports, reconnection: false });
    await new Promise((resolve) => { socket.on('connect_error', resolve).on('connect', resolve); });
    assert.equal(socket.connected, false);
    await hears(connect(gateway, cookie, { headers: { origin: app }, transports }), 'shop-gil');
    await hears(connect(gateway, cookie, { headers: { origin: gateway.url }, transports }), 'shop-gil');
  }
  const polling = `${gateway.url}/socket.io/?EIO=4&transport=polling`;
  const judged = async (method, origin) => {
    const answer = await fetch(polling, { method, headers: { origin, cookie } });
    await answer.text();
    const header = (name) => answer.headers.get(`access-control-allow-${name}`);
    return [answer.status, header('origin'), header('credentials'), answer.headers.get('vary')];
  };
  for (const method of ['GET', 'OPTIONS', 'POST']) {
    for (const origin of ['http://evil.example.com', 'https://app.example.com', 'http://app.example.com.evil.org', 'null']) {
      assert.deepEqual(await judged(method, origin), [403, null, null, null], `${method} ${origin}`);
    }
  }
  assert.deepEqual(await judged('GET', app), [200, app, 'true', 'Origin']);
  assert.deepEqual(await judged('OPTIONS', app), [204, app, 'true', 'Origin']);
  assert.ok(await counted(gateway, 'origin_refused') > 0);
  // A list of everybody would let every page act with its visitor's cookie.
  const careless = await Service.start('gateway', { ...settings, CARILLON_GATEWAY__ORIGINS: '*' }, { ready: false });
  children.push(careless);
  assert.notEqual((await careless.ended).code, 0);
  assert.match(careless.output(), /gateway\.origins: `\*`/);
});

test('a real browser logs in at the application and is connected with its cookie', async () => {
  const page = '<!doctype html><title>Shop</title>';
  const web = await Shop.start({ redis: store.url, secret, page });
  children.push(web);
  const gateway = await start('gateway', { CARILLON_GATEWAY__ORIGINS: web.url });
  const browser = await launch();
  children.push({ kill: () => browser.close() });
  const tab = await browser.newPage();
  await tab.goto(`${web.url}/login/hal`);
  await tab.goto(web.url);
  await tab.addScriptTag({ url: `${gateway.url}/socket.io/socket.io.js` });
  for (const transports of [['polling'], ['websocket']]) {
    await tab.evaluate(([url, transports]) => {
      window.got = [];
      window.socket = window.io(url, { withCredentials: true, transports, forceNew: true });
      window.socket.onAny((event, data) => window.got.push(data));
    }, [gateway.url, transports]);
    await until('the page is connected', () => tab.evaluate(() => window.socket.connected));
    await producer.send({ to: { user: 'shop-hal' }, event: 'hello', data: transports[0] });
    await until('the page heard it', () => tab.evaluate((wanted) => window.got.includes(wanted), transports[0]));
    await tab.evaluate(() => window.socket.close());
  }
});

/** Its end: what it was told, and what its next try came to. */
const ended = async (socket, user) => {
  const reasons = [];
  socket.on('disconnect', (reason) => reasons.push(reason));
  const refusal = new Promise((resolve) => { socket.on('connect_error', ({ message }) => resolve(message.split(':')[0])); });
  return async () => {
    await until(`${user} is told`, () => socket.got.some(([event]) => event === 'login_expired'));
    assert.equal(await refusal, 'login_expired');
    assert.match(reasons[0], /transport (close|error)/);
  };
};

test('whoever logs out loses the connections that stand, within the time set', async () => {
  const looking = await start('gateway', { CARILLON_IDENTITY__COOKIE__RECHECK: '1s' });
  for (const transports of [['websocket'], ['polling']]) {
    const cookie = await shop.ask('/login/jon');
    const other = connect(looking, await shop.ask('/login/jon'), { transports });
    const socket = connect(looking, cookie, { transports });
    await hears(other, 'shop-jon');
    await hears(socket, 'shop-jon');
    const over = await ended(socket, 'jon');
    await shop.ask('/logout', cookie);
    await over();
    assert.equal(other.connected, true, 'another login of the same user goes on');
  }
  assert.ok(await looking.metric('carillon_gateway_sessions_closed_total', 'reason="login_ended"') === 2);
  assert.ok(await looking.metric('carillon_gateway_login_looks_total', 'outcome="lasts"') > 0);
});

test('a login ends at its time, and not while it is used', async () => {
  const looking = await start('gateway', { CARILLON_IDENTITY__COOKIE__RECHECK: '1s' });
  const hasty = await Shop.start({ redis: store.url, secret, maxAge: 4_000 });
  children.push(hasty);
  const used = await hasty.ask('/login/kim');
  const socket = connect(looking, used);
  await hears(socket, 'shop-kim');
  const key = `sess:${decodeURIComponent(used).slice('connect.sid=s:'.length).split('.')[0]}`;
  const { expires } = JSON.parse(store.cli('GET', key)).cookie;
  // The application moves the store's expiry alone; the text keeps the first one.
  await until('its first time is over', async () => {
    await hasty.ask('/', used);
    return Date.now() > Date.parse(expires) + 1_500;
  });
  assert.equal(JSON.parse(store.cli('GET', key)).cookie.expires, expires);
  assert.equal(socket.connected, true, 'used, so extended');
  await hears(connect(looking, used), 'shop-kim');
  await (await ended(socket, 'kim'))();
});

test('the store goes away: clients come back by themselves when it does, or are told if that is wanted', async () => {
  const cookie = await shop.ask('/login/ida');
  const telling = await start('gateway', { CARILLON_IDENTITY__OUTAGE: 'tell', CARILLON_IDENTITY__COOKIE__RECHECK: '1s' });
  const staying = connect(telling, cookie);
  await hears(staying, 'shop-ida');
  await store.child.kill();
  const late = connect(gateway, cookie);
  await until('it is counted', async () => (await counted(gateway, 'login_store_unavailable')) > 0);
  assert.equal(late.connected, false);
  assert.equal(late.active, true);
  assert.equal(await refusal(telling, cookie), 'login_store_unavailable');
  assert.equal(await refusal(telling, 'connect.sid=guessed'), 'cookie_bad_signature', 'needs no store');
  await until('it was looked at in vain', async () => (await telling.metric('carillon_gateway_login_looks_total', 'outcome="unanswered"')) > 1);
  assert.equal(staying.connected, true, 'who is in stays');
  await store.run();
  allowLooks();
  await hears(late, 'shop-ida');
});
