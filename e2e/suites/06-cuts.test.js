// A client that keeps cursors is cut off again and again, at random, while messages flow: nothing lost, nothing twice,
// nothing out of order, and no claim of a gap.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { Cutter, Scanner, tried } from '../lib/cutter.js';
import { Listener } from '../lib/listener.js';
import { Producer, post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Proxy } from '../lib/proxy.js';
import { Random, seeded } from '../lib/random.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const CUTS = 50;
/** Messages per second. */
const RATE = 200;
const LOBBY_BYTES = 8 << 10;
const rooms = ['lobby', 'market', 'garden'];
const own = [...rooms, 'all'];
const children = [];
let gateway;
let ingest;
let cutter;

before(async () => {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, [
    'anonymous: { sessions: true, producers: true }',
    'rooms:',
    '- { match: short, join: anyone, history: { size: 5 } }',
    '- { match: "*", join: anyone, history: { size: 10000, bytes: 128MiB } }',
  ].join('\n'));
  // The gateway's way to Redis takes its time with pages of history, so that a replay lasts.
  const way = await Proxy.start(redis.port);
  children.push({ kill: () => way.close() });
  const numbers = new Scanner(/"number":(\d+)[,}]/g, 24);
  way.watch = (direction, bytes, pair) => {
    const session = direction === 'down' && cutter?.session;
    const found = session ? numbers.find(pair, bytes).map(({ what }) => Number(what)) : [];
    if (found.length === 0) return true;
    session.missed ??= new Set([...session.owed.values()].map(({ data }) => data.number));
    session.read ??= new Set();
    const page = found.filter((number) => session.missed.has(number));
    page.forEach((number) => session.read.add(number));
    if (page.length > 0) {
      pair.server.pause();
      setTimeout(() => pair.server.resume(), 20);
    }
    return true;
  };
  const settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policy,
    CARILLON_GATEWAY__ORIGINS: '*',
    // A client notices a black hole by a ping that does not come.
    CARILLON_GATEWAY__PING__INTERVAL: '500ms',
    CARILLON_GATEWAY__PING__TIMEOUT: '500ms',
  };
  for (const kind of ['gateway', 'dispatcher', 'ingest']) {
    const service = await Service.start(kind, { ...settings, ...(kind === 'gateway' && { CARILLON_REDIS__URL: `redis://127.0.0.1:${way.port}` }) });
    children.push(service);
    if (kind === 'gateway') gateway = service;
    if (kind === 'ingest') ingest = service;
    // Who joins a room before its partition begins is told `false` at the first message: true, and not what is tried here.
    if (kind === 'dispatcher') await until('it owns all partitions', async () => (await service.metric('carillon_dispatcher_owned', '"partition"')) === 8);
  }
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

/** Messages that one page of the lobby's history holds: at most 256 KiB. */
const PAGE = Math.floor((256 << 10) / LOBBY_BYTES);

for (const transports of [['websocket'], ['polling']]) {
  test(`${CUTS} cuts over ${transports[0]} under load lose nothing`, (t) => seeded(async (random) => {
    const proxy = await Proxy.start(gateway.gatewayPort);
    t.after(() => proxy.close());
    const client = new Listener(proxy.url, { rooms, options: { transports, timeout: 2_000 } });
    t.after(() => client.close());
    const witness = new Listener(gateway.url, { rooms });
    t.after(() => witness.close());
    let most = 0;
    cutter = new Cutter({
      proxy,
      random,
      client,
      witness,
      // More than two pages.
      pile: { room: 'lobby', messages: Math.ceil(2.5 * PAGE) },
      onReturn: async () => { most = Math.max(most, await gateway.metric('carillon_gateway_sessions')); },
    });
    await until('both are settled', () => client.settled && witness.settled);
    const producer = new Producer(ingest.ingest);
    const padding = 'x'.repeat(LOBBY_BYTES);
    // Of its own, so that the cuts are the same with the same seed, however fast messages flow.
    const chance = new Random(random.seed + 1);
    const flow = producer.flow(RATE, (number) => {
      const room = chance.next() < 0.5 ? 'lobby' : own[1 + chance.below(own.length - 1)];
      return { to: room === 'all' ? 'all' : { room }, event: 'tick', data: { number, ...(room === 'lobby' && { padding }) } };
    });
    t.after(() => flow.stop().catch(() => {}));
    const cuts = await cutter.run(CUTS);
    const { sent, seconds } = await flow.stop();
    for (const room of own) {
      const { offset: last } = producer.accepted.findLast((message) => message.room === room);
      // What has not come by then is lost; the audit says what.
      for (const each of [client, witness]) await until(`the last message of ${room} came`, () => each.of(room).at(-1)?.offset === last).catch(() => {});
    }
    for (const each of [client, witness]) {
      assert.deepEqual(each.audit(producer.accepted, own), []);
      assert.deepEqual(each.holes, [], 'history proves that all is complete');
    }
    assert.ok(sent === producer.accepted.length && sent >= 0.8 * RATE * seconds, `${sent} messages in ${seconds} s`);
    assert.ok(client.disconnects >= CUTS / 2, `it went ${client.disconnects} times; others found it in a handshake`);
    tried([cutter]);
    // What the lobby's tail in memory may have served (64 KiB) does not count.
    const unread = ({ owed, read }) => [...owed.values()].filter(({ room, data }) => room === 'lobby' && !read?.has(data.number)).length;
    const amid = cuts.filter(({ where, session }) => where === 'replay' && unread(session) > PAGE / 2);
    assert.ok(amid.length > 0, 'the gateway was cut off before it had even read all that it was to replay');
    assert.ok(most > 2, 'a session of the client that stood half open lived beside the next one');
    t.diagnostic(JSON.stringify({ ...cutter.places, ...cutter.means, amid: amid.length, sent, seconds }));
  }));
}

test('a cursor older than history is told so, with the place before what follows', async () => {
  const client = new Listener(gateway.url, { rooms: ['short'] });
  await until('settled', () => client.settled);
  const start = client.since.short;
  client.close();
  const offsets = [];
  for (let n = 0; n < 12; n += 1) {
    const { body } = await post(ingest.ingest, { to: { room: 'short' }, event: 'tick', data: n });
    offsets.push(body.rooms[0].offset);
  }
  const back = new Listener(gateway.url, { rooms: ['short'] });
  back.since.short = start;
  await until('the last ones came', () => back.of('short').length === 5);
  assert.deepEqual(back.of('short').map(({ offset }) => offset), offsets.slice(-5));
  const note = back.notes.find(([name]) => name === 'short')[1];
  assert.deepEqual(note, { offset: offsets.at(-6), recovered: false });
  back.close();
});
