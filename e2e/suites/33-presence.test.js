// Who is in a room: two gateways on a real Redis, users with several tabs, reloads, goodbyes, and a gateway that is killed.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { canary } from '../lib/canaries.js';
import { token } from '../lib/jwt.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const secret = canary('token-key');
const GRACE = 3_000;
/** After so long a process that says nothing is dead. */
const ALIVE = 10_000;
const room = 'lobby';
const children = [];
const tabs = [];
let redis;
let gateways;
let settings;
let policy;
let ingest;

const rules = (presence) => `anonymous: { sessions: true, producers: true }\nrooms:\n- { match: quiet, join: anyone }\n- { match: "*", join: anyone, publish: anyone, presence: ${presence} }\n`;

/** One tab of a user, which keeps the presence of the lobby as the client guide says. */
class Tab {
  constructor(gateway, user, { watch = true } = {}) {
    const auth = user ? { token: token(secret, { sub: user }) } : {};
    this.users = new Set();
    this.events = [];
    const socket = io(gateway.url, { auth, forceNew: true, transports: ['websocket'], reconnectionDelay: 50, reconnectionDelayMax: 200 });
    this.socket = socket;
    tabs.push(this);
    socket.on('connect', () => socket.emit('join', { room, presence: watch }, (answer) => { this.joined = answer; }));
    socket.on('presence', ({ users, sessions, error }) => {
      if (error) { this.error = error; return; }
      this.users = new Set(users);
      this.sessions = sessions;
      this.events.push(users.join());
    });
    socket.on('presence_join', ({ user }) => { this.users.add(user); this.events.push(`+${user}`); });
    socket.on('presence_leave', ({ user }) => { this.users.delete(user); this.events.push(`-${user}`); });
  }

  sees(...users) {
    return [...this.users].sort().join() === users.sort().join();
  }

  ask(event = 'presence', argument = { room }) {
    return this.socket.timeout(10_000).emitWithAck(event, argument);
  }

  close() {
    this.socket.close();
  }
}

const enter = async (gateway, user, options) => {
  const tab = new Tab(gateway, user, options);
  await until('joined', () => tab.joined?.ok);
  return tab;
};

/** Fails if a tab is told anything before something else has become so. */
const silent = async (tab, what, condition) => {
  const before = tab.events.length;
  await until(what, condition, 60_000);
  assert.deepEqual(tab.events.slice(before), []);
};

before(async () => {
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, rules(true));
  settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policy,
    CARILLON_IDENTITY__HS256_SECRET: secret,
    CARILLON_GATEWAY__PRESENCE__GRACE: `${GRACE}ms`,
  };
  for (const kind of ['gateway', 'gateway', 'dispatcher', 'ingest']) children.push(await Service.start(kind, settings));
  gateways = children.slice(1, 3);
  ingest = children[4];
});
after(async () => {
  tabs.forEach((tab) => tab.close());
  for (const child of children.reverse()) await child.kill();
});

test('three tabs on two gateways are one user, and everybody sees the same', async () => {
  const eve = await enter(gateways[1], 'eve');
  await until('she sees herself', () => eve.sees('eve'));
  const ann = [await enter(gateways[0], 'ann'), await enter(gateways[1], 'ann'), await enter(gateways[0], 'ann')];
  const stranger = await enter(gateways[0], undefined, { watch: false });
  await until('she is seen', () => eve.sees('ann', 'eve'));
  await until('by all', () => ann.every((tab) => tab.sees('ann', 'eve')));
  for (const tab of [eve, stranger]) {
    await until('the sessions are counted', async () => (await tab.ask()).sessions === 5);
    assert.deepEqual((await tab.ask()).users, ['ann', 'eve']);
  }
  const asked = await fetch(`${ingest.ingest}/v1/rooms/${room}/presence`);
  assert.deepEqual([asked.status, await asked.json()], [200, { room, users: ['ann', 'eve'], sessions: 5 }]);
  assert.deepEqual(eve.events.slice(1), ['+ann'], 'once');
  assert.deepEqual(stranger.events, [], 'who did not ask is told nothing');
  // Two tabs go: she is still there. The third: she leaves, once, after the grace time.
  ann[0].close();
  ann[1].close();
  await silent(eve, 'two are gone', async () => (await eve.ask()).sessions === 3);
  const closed = Date.now();
  ann[2].close();
  await until('she left', () => eve.events.at(-1) === '-ann');
  const waited = Date.now() - closed;
  assert.ok(waited >= GRACE && waited < GRACE + 5_000, `${waited} ms`);
  assert.deepEqual(eve.events.slice(1), ['+ann', '-ann']);
  stranger.close();
  eve.close();
});

test('a reload is no event, a goodbye is one at once', async () => {
  const eve = await enter(gateways[0], 'eve');
  let ann = await enter(gateways[1], 'ann');
  await until('they see each other', () => eve.sees('ann', 'eve') && ann.sees('ann', 'eve'));
  for (const gateway of [gateways[1], gateways[0], gateways[1]]) {
    ann.close();
    await silent(eve, 'the session is gone', async () => (await eve.ask()).sessions === 1);
    ann = await enter(gateway, 'ann');
    await silent(eve, 'it is back', async () => (await eve.ask()).sessions === 2);
    await silent(eve, 'she sees both', () => ann.sees('ann', 'eve'));
  }
  // What was lingering is over; nobody was told.
  const waited = Date.now();
  await silent(eve, 'the grace time is over', () => Date.now() - waited > GRACE + 1_500);
  const left = Date.now();
  assert.equal((await ann.ask('leave')).ok, true);
  await until('she left', () => eve.events.at(-1) === '-ann');
  assert.ok(Date.now() - left < GRACE - 500, 'without the grace time');
  ann.close();
  eve.close();
});

test('a Redis that forgets and restarts is told again, and nobody hears of it', async () => {
  const eve = await enter(gateways[0], 'eve');
  const ann = await enter(gateways[1], 'ann');
  await until('they see each other', () => eve.sees('ann', 'eve') && ann.sees('ann', 'eve'));
  const [key] = redis.cli('--scan', '--pattern', `carillon:p:*:${room}`).trim().split('\n');
  redis.cli('DEL', key, key.replace(':p:', ':pv:'));
  await redis.child.kill();
  await redis.run();
  await until('it is stated again', () => Number(redis.cli('HLEN', key)) === 2);
  const waited = Date.now();
  await until('the grace time is over', () => Date.now() - waited > GRACE + 1_500);
  assert.ok(eve.sees('ann', 'eve') && ann.sees('ann', 'eve'), `${eve.events} · ${ann.events}`);
  assert.ok(!eve.events.includes('-ann') && !ann.events.includes('-eve'));
  eve.close();
  ann.close();
});

test('policy decides, and may change its mind', async () => {
  const eve = await enter(gateways[0], 'eve');
  await until('she sees herself', () => eve.sees('eve'));
  assert.equal((await eve.ask('presence', { room: 'elsewhere' })).error.code, 'not_joined');
  assert.deepEqual((await eve.ask('join', { room: 'quiet', presence: true })).presence, false);
  assert.equal((await eve.ask('presence', { room: 'quiet' })).error.code, 'forbidden');
  fs.writeFileSync(policy, rules(false));
  await until('she is told', () => eve.error?.code === 'forbidden');
  assert.equal((await fetch(`${ingest.ingest}/v1/rooms/quiet/presence`)).status, 403);
  await until('nothing is kept', () => redis.cli('--scan', '--pattern', `carillon:p:*:${room}`).trim() === '');
  fs.writeFileSync(policy, rules(true));
  await until('it is kept again', async () => (await eve.ask()).ok);
  await eve.ask('join', { room, presence: true });
  const ann = await enter(gateways[1], 'ann');
  await until('she hears of it again', () => eve.events.at(-1) === '+ann' || eve.sees('ann', 'eve'));
  assert.equal((await eve.ask('join', { room, presence: false })).presence, false);
  const told = eve.events.length;
  assert.equal((await ann.ask('leave')).ok, true);
  await until('she is gone', async () => (await eve.ask()).users.join() === 'eve');
  assert.equal(eve.events.length, told, 'who watches no more is told nothing');
});

test('ghosts of a killed gateway vanish within its alive time, however long the grace time is, and whoever comes back was never gone', async () => {
  // So long a grace time could not be overlooked: it hides reconnects, and no deaths.
  const patient = { ...settings, CARILLON_GATEWAY__PRESENCE__GRACE: '60s' };
  const [watching, other, doomed] = await Promise.all(['gateway', 'gateway', 'gateway'].map((kind) => Service.start(kind, patient)));
  children.push(watching, other, doomed);
  const eve = await enter(watching, 'eve');
  await enter(doomed, 'ghost');
  const ann = await enter(doomed, 'ann');
  await until('all are seen', () => eve.sees('ann', 'eve', 'ghost'));
  await doomed.kill();
  const killed = Date.now();
  ann.close();
  const back = await enter(other, 'ann');
  await until('the ghost is gone', () => eve.sees('ann', 'eve'), 120_000);
  const waited = Date.now() - killed;
  assert.ok(waited < ALIVE + 6_000, `${waited} ms: the alive time, and a look at who lives`);
  assert.equal(eve.events.at(-1), '-ghost');
  assert.ok(!eve.events.includes('-ann'));
  await until('at the other gateway, too', async () => (await back.ask()).users.join() === 'ann,eve');
  const keys = redis.cli('--scan', '--pattern', `carillon:p:*:${room}`).trim().split('\n');
  assert.equal(keys.length, 1);
  await until('nothing is left of the dead', () => !redis.cli('HKEYS', keys[0]).includes(doomed.name));
  eve.close();
  back.close();
  for (const gateway of [watching, other]) await gateway.stop();
});
