// Clients that keep cursors are cut off again and again while messages flow: nothing lost, nothing twice, nothing out of
// order, and no needless claim of a gap.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { Listener } from '../lib/listener.js';
import { Producer, post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Proxy } from '../lib/proxy.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const CUTS = 50;
const children = [];
let gateway;
let ingest;
const room = 'lobby';

before(async () => {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, [
    'anonymous: { sessions: true, producers: true }',
    'rooms:',
    '- { match: short, join: anyone, history: { size: 5 } }',
    '- { match: "*", join: anyone, history: { size: 10000, bytes: 64MiB } }',
  ].join('\n'));
  const settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policy,
    CARILLON_GATEWAY__ORIGINS: '*',
    // A client notices a black hole by a ping that does not come.
    CARILLON_GATEWAY__PING__INTERVAL: '500ms',
    CARILLON_GATEWAY__PING__TIMEOUT: '500ms',
  };
  for (const kind of ['gateway', 'dispatcher', 'ingest']) {
    const service = await Service.start(kind, settings);
    children.push(service);
    if (kind === 'gateway') gateway = service;
    if (kind === 'ingest') ingest = service;
  }
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

for (const transports of [['websocket'], ['polling']]) {
  test(`${CUTS} cuts over ${transports[0]} under load lose nothing`, async (t) => {
    const proxy = await Proxy.start(gateway.gatewayPort);
    t.after(() => proxy.close());
    const client = new Listener(proxy.url, { rooms: [room], options: { transports, timeout: 2_000 } });
    t.after(() => client.close());
    const producer = new Producer(ingest.ingest);
    let stop = false;
    t.after(() => { stop = true; });
    const flow = (async () => {
      for (let number = 0; !stop; number += 1) {
        // 200 a second, give or take.
        const started = Date.now();
        await producer.batch(Array.from({ length: 10 }, (_, n) => ({ to: { room }, event: 'tick', data: number * 10 + n })));
        await until('the next batch is due', () => Date.now() - started >= 50);
      }
    })();
    for (let cut = 0; cut < CUTS; cut += 1) {
      const before = client.received.length;
      const connects = client.connects;
      // Every third cut comes as soon as there is a connection: during the replay, or before the first message.
      await until('connected again', () => client.connects > connects - 1 && client.socket.connected, 60_000);
      if (cut % 3 !== 0) await until('something came', () => client.received.length > before + cut % 7, 60_000);
      if (cut % 5 === 4) proxy.swallow(); else proxy.cut();
      // A client that polls does not notice what is cut between two polls.
      const then = { received: client.received.length, connects: client.connects };
      await until('the client noticed, or went on', () => !client.socket.connected || client.received.length > then.received || client.connects > then.connects, 60_000);
    }
    stop = true;
    await flow;
    const own = producer.accepted;
    const last = own.at(-1).offset;
    await until('the last message came', () => client.of(room).some(({ offset }) => offset === last), 60_000);
    assert.deepEqual(client.audit(own, [room]), []);
    assert.ok(own.length > 300, `${own.length} messages flowed`);
  });
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
