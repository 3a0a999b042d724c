// No sticky sessions: three gateways behind a balancer that sends each connection to the next one.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { Balancer } from '../lib/balancer.js';
import { canary } from '../lib/canaries.js';
import { Listener } from '../lib/listener.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const secret = canary('forwarding-secret');
const children = [];
let settings;
let gateways;
let balancer;
let producer;

const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};
before(async () => {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: true, producers: true }\nrooms:\n- { match: "*", join: anyone, publish: anyone, history: { size: 20000, bytes: 64MiB } }\n');
  settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policy,
    CARILLON_GATEWAY__FORWARDING__SECRET: secret,
    CARILLON_GATEWAY__DRAIN__TIMEOUT: '5s',
  };
  gateways = [await start('gateway'), await start('gateway'), await start('gateway')];
  const dispatcher = await start('dispatcher');
  // Who joins a room before its partition begins is told `false` at the first message: true, and not what is tried here.
  await until('it owns all partitions', async () => (await dispatcher.metric('carillon_dispatcher_owned', '"partition"')) === 8);
  producer = new Producer((await start('ingest')).ingest);
  balancer = await Balancer.start(gateways.map((gateway) => gateway.gatewayPort));
});
after(async () => {
  balancer?.close();
  for (const child of children.reverse()) await child.kill();
});

const sum = async (name, labels) => {
  const living = gateways.filter(({ process: { exitCode, signalCode } }) => exitCode === null && signalCode === null);
  return (await Promise.all(living.map((gateway) => gateway.metric(name, labels)))).reduce((a, b) => a + b, 0);
};
const forwarded = (outcome) => sum('carillon_gateway_forwarded_requests_total', `"${outcome}"`);
/** The gateway that holds a client's session. */
const ownerOf = (client) => gateways.find((gateway) => client.socket.io.engine.id.startsWith(`${gateway.name}.`));

test('handshake, upgrade, publish and recovery work wherever each request goes', async () => {
  const upgrading = Array.from({ length: 10 }, () => new Listener(balancer.url, { rooms: ['news'] }));
  const polling = Array.from({ length: 5 }, () => new Listener(balancer.url, { rooms: ['news'], options: { transports: ['polling'] } }));
  const clients = [...upgrading, ...polling];
  await until('all are settled', () => clients.every((client) => client.settled), 60_000);
  await until('all that may have upgraded', () => upgrading.every((client) => client.socket.io.engine.transport.name === 'websocket'), 60_000);
  assert.ok(polling.every((client) => client.socket.io.engine.transport.name === 'polling'));
  assert.ok(clients.every((client) => client.connects === 1), 'at the first try');
  assert.ok((await forwarded('answered')) > 0, 'they were handed on');
  assert.ok((await forwarded('answered')) <= (await forwarded('taken')), 'and taken by the owners');
  assert.ok((await sum('carillon_gateway_forwarded_websockets', '')) > 0);

  for (const client of clients) {
    const receipt = await client.socket.emitWithAck('publish', { room: 'news', event: 'note', data: { from: client.socket.id, text: canary('payload') } });
    producer.keep({ id: receipt.id, rooms: [{ room: 'news', offset: receipt.offset }] });
  }
  for (let n = 0; n < 50; n += 1) await producer.send({ to: { room: 'news' }, event: 'tick', data: canary('payload', 'é'.repeat(n)) });
  const all = () => clients.every((client) => client.of('news').length === clients.length + 50);
  await until('all have everything', all, 60_000);
  clients.forEach((client) => client.socket.io.engine.close());
  await until('all are back', () => clients.every((client) => client.connects === 2 && client.settled), 60_000);
  await producer.send({ to: { room: 'news' }, event: 'tick', data: 'after' });
  const { offset: last } = producer.accepted.at(-1);
  await until('all have the last', () => clients.every((client) => client.of('news').at(-1)?.offset === last), 60_000);
  clients.forEach((client, n) => {
    assert.deepEqual(client.audit(producer.accepted, ['news']), [], `client ${n}`);
    assert.deepEqual(client.holes, [], `history proves that client ${n} has everything`);
  });
  assert.equal(balancer.statuses.get('400'), undefined, JSON.stringify([...balancer.statuses]));
  clients.forEach((client) => client.close());
});

test('who says it forwards has to prove it', async () => {
  const answer = await fetch(`${gateways[0].url}/socket.io/?EIO=4&transport=polling&sid=${gateways[0].name}.AAAA`, { headers: { 'carillon-forwarded': 'AAAA' } });
  assert.equal(answer.status, 403);
  assert.equal(await forwarded('unauthenticated'), 1);
  const gone = await fetch(`${gateways[0].url}/socket.io/?EIO=4&transport=polling&sid=gateway-of-yesterday.AAAA`);
  assert.equal(gone.status, 503);
  assert.match(await gone.text(), /session_gone/);
});

test('who was handed a request hands it on to nobody, and each hands on so many at once', async () => {
  const [here, there, few] = [gateways[0], gateways[1], await start('gateway', { CARILLON_GATEWAY__FORWARDING__REQUESTS: '1' })];
  const sid = `${there.name}.AAAA`;
  const proof = createHmac('sha256', secret).update(sid).digest('base64url');
  const taken = () => there.metric('carillon_gateway_forwarded_requests_total', '"taken"');
  const before = await taken();
  const polling = (gateway) => `${gateway.url}/socket.io/?EIO=4&transport=polling`;
  const answer = await fetch(`${polling(here)}&sid=${sid}`, { headers: { 'carillon-forwarded': proof } });
  assert.deepEqual([answer.status, (await answer.json()).code], [503, 'session_gone']);
  assert.equal(await taken(), before);

  const ids = await Promise.all([1, 2].map(async () => {
    const { sid: id } = JSON.parse((await (await fetch(polling(there))).text()).slice(1));
    // The first poll brings a ping at once; from then on a poll waits.
    assert.equal(await (await fetch(`${polling(there)}&sid=${id}`)).text(), '2');
    return id;
  }));
  const end = new AbortController();
  const polls = ids.map((id) => fetch(`${polling(few)}&sid=${id}`, { signal: end.signal }));
  polls.forEach((poll) => poll.catch(() => {}));
  const refused = await Promise.race(polls);
  assert.deepEqual([refused.status, (await refused.json()).code], [503, 'forwarding_full']);
  assert.equal(await few.metric('carillon_gateway_forwarded_requests_total', '"full"'), 1);
  end.abort();
  await few.kill();
});

test('the death of the owner and the drain of one in between lose nothing', async () => {
  const clients = Array.from({ length: 12 }, (_, n) => new Listener(balancer.url, { rooms: ['deaths'], options: n % 3 === 0 ? { transports: ['polling'] } : {} }));
  await until('all are settled', () => clients.every((client) => client.settled), 60_000);
  let stop = false;
  const flow = (async () => {
    for (let number = 0; !stop; number += 1) await producer.send({ to: { room: 'deaths' }, event: 'tick', data: number });
  })();
  await until('messages flow', () => clients.every((client) => client.of('deaths').length > 5), 60_000);
  const victim = ownerOf(clients[0]);
  assert.ok(victim, clients[0].socket.io.engine.id);
  await victim.kill();
  balancer.ports = balancer.ports.filter((port) => port !== victim.gatewayPort);
  await until('all live elsewhere', () => clients.every((client) => client.settled && ownerOf(client) && ownerOf(client) !== victim), 60_000);

  const draining = gateways.find((gateway) => gateway !== victim);
  balancer.ports = balancer.ports.filter((port) => port !== draining.gatewayPort);
  const { code } = await draining.stop();
  assert.equal(code, 0);
  assert.doesNotMatch(draining.output(), /still open when the time for draining was up/, 'what it carried was let go, too');
  await until('all live at the last one', () => clients.every((client) => client.settled && ownerOf(client) && ![victim, draining].includes(ownerOf(client))), 60_000);
  stop = true;
  await flow;
  const { offset: last } = producer.accepted.at(-1);
  for (const [n, client] of clients.entries()) {
    await until(`client ${n} has the last`, () => client.of('deaths').at(-1)?.offset === last, 60_000);
    assert.deepEqual(client.audit(producer.accepted, ['deaths']), [], `client ${n}`);
    assert.deepEqual(client.holes, [], `history proves that client ${n} has everything`);
  }
  assert.equal(balancer.statuses.get('400'), undefined, JSON.stringify([...balancer.statuses]));
  clients.forEach((client) => client.close());
});
