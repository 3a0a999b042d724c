// The cursor lines of the client guide, taken from the page: in each language, a client that is cut off again and again
// while messages flow loses nothing, gets nothing twice and nothing out of order.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { CursorClient, languages } from '../lib/cursors.js';
import { token } from '../lib/jwt.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Proxy } from '../lib/proxy.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const CUTS = 15;
const secret = 'the guide knows';
const rooms = ['lobby', 'Glocken 🔔 {"é"}'];
const children = [];
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
    test(`${language}: ${CUTS} cuts over ${transports ?? 'polling, then WebSocket'} lose nothing`, async (cutting) => {
      const user = `${language} ${transports}`;
      const proxy = await Proxy.start(gateway.gatewayPort);
      const client = new CursorClient(language, { url: proxy.url, token: token(secret, { sub: user }), transports, rooms });
      const own = ['all', `user:${user}`, ...rooms];
      const is = (what, condition) => until(`${what}; it said: ${client.errors}`, condition);
      await is('it is told where it is in all its rooms', () => own.every((room) => client.since[room]));
      const producer = new Producer(ingest.ingest);
      let stop = false;
      cutting.after(() => {
        stop = true;
        client.close();
        proxy.close();
      });
      const flow = (async () => {
        for (let number = 0; !stop; number += 1) {
          const started = Date.now();
          const bytes = Buffer.from([number % 256]).toString('base64');
          await producer.batch(Array.from({ length: 10 }, (_, n) => ({
            to: { room: own[n % own.length] }, event: 'price', ...(n === 9 ? { data_base64: bytes } : { data: number * 10 + n }),
          })));
          await until('the next batch is due', () => Date.now() - started >= 50);
        }
      })();
      for (let cut = 0; cut < CUTS; cut += 1) {
        const heard = client.received.length;
        await is('connected again', () => client.connected);
        // Every third cut comes as soon as there is a connection: during the replay, or before the first message.
        if (cut % 3 !== 0) await is('something came', () => client.received.length > heard + cut % 7);
        if (cut % 5 === 4) proxy.swallow(); else proxy.cut();
        // A client that polls does not notice what is cut between two polls.
        const then = { received: client.received.length, connects: client.connects };
        await is('it noticed, or went on', () => !client.connected || client.received.length > then.received || client.connects > then.connects);
      }
      stop = true;
      await flow;
      for (const room of own) {
        const { offset: last } = producer.accepted.findLast((message) => message.room === room);
        // What has not come by then is lost; the audit says what.
        await is(`the last message of ${room} came`, () => client.of(room).at(-1)?.offset === last).catch(() => {});
      }
      assert.deepEqual(client.audit(producer.accepted, own), []);
      assert.ok(producer.accepted.length > 100, `${producer.accepted.length} messages flowed`);
      assert.ok(client.connects > CUTS / 3, `it came back ${client.connects - 1} times`);

      // A room that is left has no cursor any more.
      let asked = 0;
      await is('it left', () => {
        // What is said into a black hole is not heard, so it asks again.
        if (Date.now() - asked > 1_000) {
          client.ask({ leave: rooms[1] });
          asked = Date.now();
        }
        return !client.since[rooms[1]];
      });
      client.ask({});
      await is('it says its cursors', () => client.kept);
      assert.deepEqual(client.kept, client.since);
    });
  }
}
