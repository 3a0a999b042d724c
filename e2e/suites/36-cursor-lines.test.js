// The cursor lines of the client guide, taken from the page: in each language, a client that is cut off again and again
// while messages flow loses nothing, gets nothing twice and nothing out of order.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { CursorClient, languages } from '../lib/cursors.js';
import { Cutter, Scanner, tried } from '../lib/cutter.js';
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

/**
 * A client of a language behind a proxy, told where it is in all its rooms, and messages that flow to each of them.
 * What is `around` it sees its connections from the first on.
 */
async function beginning(running, { language, transports, user, around = () => {} }) {
  const proxy = await Proxy.start(gateway.gatewayPort);
  running.after(() => proxy.close());
  const client = new CursorClient(language, { url: proxy.url, token: token(secret, { sub: user }), transports, rooms });
  running.after(() => client.close());
  const own = ['all', `user:${user}`, ...rooms];
  const is = (what, condition) => until(`${what}; it said: ${client.errors}`, condition);
  const witness = new Listener(gateway.url, { rooms, token: token(secret, { sub: user }) });
  running.after(() => witness.close());
  around({ proxy, client, witness });
  await is('it is told where it is in all its rooms', () => own.every((room) => client.since[room]) && witness.settled);
  const producer = new Producer(ingest.ingest);
  const padding = 'x'.repeat(4_000);
  const flow = producer.flow(200, (number) => {
    const room = own[number % own.length];
    const bytes = Buffer.from(`${number}`).toString('base64');
    return { to: { room }, event: 'price', ...(number % 10 === 9 ? { data_base64: bytes } : { data: room === 'lobby' ? { number, padding } : number }) };
  });
  running.after(() => flow.stop().catch(() => {}));

  /** Everything came, once and in order, and the client knows that nothing is missing. */
  const complete = async () => {
    const { sent, seconds } = await flow.stop();
    for (const room of own) {
      const { offset: last } = producer.accepted.findLast((message) => message.room === room);
      // What has not come by then is lost; the audit says what.
      await is(`the last message of ${room} came`, () => client.of(room).at(-1)?.offset === last).catch(() => {});
    }
    assert.deepEqual(client.audit(producer.accepted, own), []);
    assert.deepEqual(client.holes, [], 'history proves that all is complete');
    return { sent, seconds };
  };
  return { proxy, client, is, complete };
}

for (const language of languages) {
  for (const transports of [['websocket'], undefined]) {
    test(`${language}: ${CUTS} cuts over ${transports ?? 'polling, then WebSocket'} lose nothing`, (cutting) => seeded(async (random) => {
      let cutter;
      const around = (what) => { cutter = new Cutter({ ...what, random, pile: { room: 'lobby', messages: 25 } }); };
      const { client, is, complete } = await beginning(cutting, { language, transports, user: `${language} ${transports}`, around });
      cutters.push(cutter);
      await cutter.run(CUTS).catch((error) => { throw new Error(`${error.message}; it said: ${client.errors}`); });
      const { sent, seconds } = await complete();
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

// Chance seldom cuts there, and each has ended a stock client for good; the guide and clients/python/cursors.py say how.
// A pattern ends where the cut is; the text is in a frame of a WebSocket, as the parts of a poll's answer come together.
const edges = {
  'in the body of the answer that opens its session': /({"sid":"[^"]*","up)/g,
  'between the text of a message and its bytes': /(\x81~[^]{2}451-\["price",{"_placeholder":true,"num":0},{[^{}]*}\])/g,
};
for (const language of languages) {
  test(`${language}: a cut at the seams of the protocol loses nothing`, async (cutting) => {
    const { proxy, client, is, complete } = await beginning(cutting, { language, user: `${language} at seams` });
    for (const [where, pattern] of Object.entries(edges)) {
      const scanner = new Scanner(pattern, 500);
      let holes;
      proxy.watch = (direction, bytes, pair) => {
        const [found] = direction === 'down' && !holes ? scanner.find(pair, bytes) : [];
        if (!found) return true;
        holes = proxy.swallow();
        return found.at;
      };
      // Sessions open after a cut only.
      proxy.cut();
      await is(`it can be cut ${where}`, () => holes);
      const { connects } = client;
      proxy.cut(holes);
      proxy.lift();
      await is(`it is back after a cut ${where}`, () => client.connects > connects);
      proxy.watch = undefined;
    }
    await complete();
  });
}

test('they were cut off at every place and by every means', () => tried(cutters));
