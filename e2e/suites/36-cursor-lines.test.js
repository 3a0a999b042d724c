// The cursor lines of the client guide, taken from the page: in each language, a client that is cut off again and again
// while messages flow loses nothing, gets nothing twice and nothing out of order.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { CursorClient, languages } from '../lib/cursors.js';
import { Cutter, tried } from '../lib/cutter.js';
import { token } from '../lib/jwt.js';
import { Listener } from '../lib/listener.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Proxy } from '../lib/proxy.js';
import { seeded } from '../lib/random.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const CUTS = 15;
const secret = 'the guide knows';
const rooms = ['lobby', 'Glocken 🔔 {"é"}'];
const children = [];
const cutters = [];
let gateway;
let ingest;

before(async () => {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  // A client that forgets its token at a reconnect is refused.
  fs.writeFileSync(policy, 'anonymous: { sessions: false, producers: true }\nrooms:\n- { match: "*", join: authenticated, history: { size: 20000, bytes: 64MiB } }\n');
  const settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policy,
    CARILLON_IDENTITY__HS256_SECRET: secret,
    // A client notices a black hole by a ping that does not come.
    CARILLON_GATEWAY__PING__INTERVAL: '500ms',
    CARILLON_GATEWAY__PING__TIMEOUT: '500ms',
  };
  for (const kind of ['gateway', 'dispatcher', 'ingest']) {
    const service = await Service.start(kind, settings);
    children.push(service);
    if (kind === 'gateway') gateway = service;
    if (kind === 'ingest') ingest = service;
    // Who joins a room before its partition begins is told `false` at the first message: true, and not what is tried here.
    if (kind === 'dispatcher') await until('it owns all partitions', async () => (await service.metric('carillon_dispatcher_owned', '"partition"')) === 8);
  }
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

for (const language of languages) {
  for (const transports of [['websocket'], undefined]) {
    test(`${language}: ${CUTS} cuts over ${transports ?? 'polling, then WebSocket'} lose nothing`, (cutting) => seeded(async (random) => {
      const user = `${language} ${transports}`;
      const proxy = await Proxy.start(gateway.gatewayPort);
      cutting.after(() => proxy.close());
      const client = new CursorClient(language, { url: proxy.url, token: token(secret, { sub: user }), transports, rooms });
      cutting.after(() => client.close());
      const witness = new Listener(gateway.url, { rooms, token: token(secret, { sub: user }) });
      cutting.after(() => witness.close());
      const cutter = new Cutter({ proxy, random, client, witness, pile: { room: 'lobby', messages: 25 } });
      cutters.push(cutter);
      const own = ['all', `user:${user}`, ...rooms];
      const is = (what, condition) => until(`${what}; it said: ${client.errors}`, condition);
      await is('it is told where it is in all its rooms', () => own.every((room) => client.since[room]) && witness.settled);
      const producer = new Producer(ingest.ingest);
      const padding = 'x'.repeat(4_000);
      const flow = producer.flow(200, (number) => {
        const room = own[number % own.length];
        const bytes = Buffer.from(`${number}`).toString('base64');
        return { to: { room }, event: 'price', ...(number % 10 === 9 ? { data_base64: bytes } : { data: room === 'lobby' ? { number, padding } : number }) };
      });
      cutting.after(() => flow.stop().catch(() => {}));
      await cutter.run(CUTS).catch((error) => { throw new Error(`${error.message}; it said: ${client.errors}`); });
      const { sent, seconds } = await flow.stop();
      for (const room of own) {
        const { offset: last } = producer.accepted.findLast((message) => message.room === room);
        // What has not come by then is lost; the audit says what.
        await is(`the last message of ${room} came`, () => client.of(room).at(-1)?.offset === last).catch(() => {});
      }
      assert.deepEqual(client.audit(producer.accepted, own), []);
      assert.deepEqual(client.holes, [], 'history proves that all is complete');
      assert.ok(sent >= 0.8 * 200 * seconds, `${sent} messages in ${seconds} s`);
      cutting.diagnostic(JSON.stringify({ ...cutter.places, ...cutter.means, sent, seconds }));

      // A room that is left has no cursor any more.
      let asked = 0;
      await is('it left', () => {
        // What is said while it is away is not heard, so it asks again.
        if (Date.now() - asked > 1_000) {
          client.ask({ leave: rooms[1] });
          asked = Date.now();
        }
        return !client.since[rooms[1]];
      });
      client.ask({});
      await is('it says its cursors', () => client.kept);
      assert.deepEqual(client.kept, client.since);
    }));
  }
}

test('they were cut off at every place and by every means', () => tried(cutters));
