// One trace from a producer's POST to the clients' acknowledgements, as a real collector sees it.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { Collector } from '../lib/collector.js';
import { grpc } from '../lib/grpc.js';
import { Listener } from '../lib/listener.js';
import { post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { StockClient, libraries } from '../lib/stock.js';
import { until } from '../lib/until.js';

const children = [];
const sockets = [];
let settings;
let redis;
let collector;
let gateways;
let dispatcher;
let ingest;

const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};
/** A dispatcher whose log programs can read. */
const startDispatcher = () => start('dispatcher', { CARILLON_LOG__FORMAT: 'json' });

/** A caller's trace: what it sends, and the ids in it. */
const caller = (flags = '01') => {
  const trace = randomBytes(16).toString('hex');
  const span = randomBytes(8).toString('hex');
  return { trace, span, headers: { traceparent: `00-${trace}-${span}-${flags}` } };
};
const send = async (room, data, headers = {}, to = ingest) => {
  const answer = await post(to.ingest, { to: { room }, event: 'tick', data }, headers);
  assert.equal(answer.status, 202, JSON.stringify(answer.body));
};
const settled = (clients) => until('all are settled', () => clients.every((client) => client.settled), 60_000);
const have = (clients, data) => until(`all have ${data}`, () => clients.every((client) => client.received.some((message) => message.data === data)));

before(async () => {
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  collector = await Collector.start();
  children.push(collector);
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, `anonymous: { sessions: true, producers: true }
rooms:
- { match: "*", join: anyone, publish: anyone }
intake:
  lists: [ { list: bells, room: listed, event: tick } ]
`);
  settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policy,
    CARILLON_TELEMETRY__OTLP__ENDPOINT: collector.endpoint,
    // What OpenTelemetry calls the time after which spans leave.
    OTEL_BSP_SCHEDULE_DELAY: '200',
  };
  gateways = [await start('gateway'), await start('gateway')];
  dispatcher = await startDispatcher();
  ingest = await start('ingest');
  const beacons = gateways.map((gateway) => new Listener(gateway.url, { rooms: ['beacon'], options: { transports: ['websocket'] } }));
  await settled(beacons);
  // Spans leave a process in the order in which they ended: what every process ended before a message came by is here when
  // the spans of that message are.
  collector.caughtUp = async () => {
    const from = caller();
    await send('beacon', from.trace, from.headers);
    await until('the collector has caught up', () => {
      const { publish, dispatch, write } = collector.byName(from.trace);
      return publish && dispatch && write?.length === gateways.length;
    });
  };
});
after(async () => {
  sockets.forEach((socket) => socket.close());
  for (const child of children.reverse()) await child.kill();
});

test('from a POST to the clients of two gateways it is one trace', async () => {
  const clients = gateways.map((gateway) => new Listener(gateway.url, { rooms: ['news'], options: { transports: ['websocket'] } }));
  await settled(clients);
  const from = caller();
  await send('news', 'one trace', from.headers);
  await have(clients, 'one trace');

  const tree = await collector.tree(from.trace, { publish: 1, dispatch: 1, deliver: 2, write: 2 });
  const [[publish], [dispatch]] = [tree.publish, tree.dispatch];
  assert.deepEqual([publish.service, publish.kind, publish.parent], ['carillon-ingest', 'server', from.span]);
  assert.equal(publish.attributes.status, 202);
  assert.deepEqual([dispatch.service, dispatch.kind, dispatch.parent], ['carillon-dispatcher', 'consumer', publish.id]);
  assert.deepEqual([dispatch.attributes.room, dispatch.attributes.gateways, dispatch.attributes.repeated], ['news', 2, false]);
  assert.deepEqual(new Set(tree.deliver.map((span) => span.attributes.gateway.split('@')[0])), new Set(gateways.map((gateway) => gateway.name)));
  for (const deliver of tree.deliver) {
    assert.deepEqual([deliver.service, deliver.parent, deliver.attributes.room, deliver.attributes.sessions], ['carillon-gateway', dispatch.id, 'news', 1]);
    const writes = tree.write.filter((write) => write.parent === deliver.id);
    assert.equal(writes.length, 1, 'each wrote once');
    assert.ok(clients.some((client) => client.socket.id === writes[0].attributes.session));
    assert.ok(publish.start <= dispatch.start && dispatch.start <= deliver.start && deliver.start <= writes[0].start && writes[0].start <= writes[0].end);
  }
  const offset = clients[0].of('news').at(-1).offset;
  assert.ok([dispatch, ...tree.deliver].every((span) => span.attributes.offset === offset), 'the same offset at every hop');
  clients.forEach((client) => client.close());
});

for (const [call, count] of [['unary', 1], ['stream', 3], ['each', 3]]) {
  test(`from a gRPC call (${call}) to the clients of two gateways it is one trace`, async () => {
    const room = `grpc-${call}`;
    const clients = gateways.map((gateway) => new Listener(gateway.url, { rooms: [room], options: { transports: ['websocket'] } }));
    await settled(clients);
    const publish = (from) => {
      const messages = Array.from({ length: count }, (_, n) => ({ to: { room }, event: 'tick', data: JSON.stringify(`${from.trace} ${n}`) }));
      return grpc(call, ingest.grpc, messages, { GRPC_TRACEPARENT: from.headers.traceparent });
    };
    const [unrecorded, from] = [caller('00'), caller()];
    await publish(unrecorded);
    await publish(from);
    for (const { trace } of [unrecorded, from]) await have(clients, `${trace} ${count - 1}`);

    const tree = await collector.tree(from.trace, { publish_grpc: 1, dispatch: count, deliver: 2 * count, write: 2 * count });
    const [publishing] = tree.publish_grpc;
    assert.deepEqual([publishing.service, publishing.kind, publishing.parent], ['carillon-ingest', 'server', from.span]);
    const offsets = clients[0].of(room).filter(({ data }) => data.startsWith(from.trace)).map(({ offset }) => offset);
    assert.deepEqual(tree.dispatch.map(({ attributes }) => attributes.offset).sort(), [...offsets].sort(), 'one for each message');
    for (const dispatch of tree.dispatch) {
      assert.deepEqual([dispatch.service, dispatch.kind, dispatch.parent, dispatch.attributes.room], ['carillon-dispatcher', 'consumer', publishing.id, room]);
      const delivers = tree.deliver.filter(({ parent }) => parent === dispatch.id);
      assert.deepEqual(new Set(delivers.map(({ attributes }) => attributes.gateway.split('@')[0])), new Set(gateways.map(({ name }) => name)));
      for (const deliver of delivers) {
        assert.deepEqual([deliver.service, deliver.attributes.offset], ['carillon-gateway', dispatch.attributes.offset]);
        assert.equal(tree.write.filter(({ parent }) => parent === deliver.id).length, 1, 'each wrote once');
      }
    }
    assert.deepEqual(collector.of(unrecorded.trace), [], 'the caller said not to record it');
    clients.forEach((client) => client.close());
  });
}

for (const [library, transports] of Object.entries(libraries).flatMap(([library]) => [[library, ['websocket']], [library, ['polling']]])) {
  test(`${library}, ${transports}: a client that acknowledges ends the trace`, async () => {
    const client = await StockClient.start(library, Number(new URL(gateways[0].url).port), { transports, auth: { acknowledge: true }, events: ['tick'] });
    const { connected: session } = await client.tells('connected', ({ connected }) => connected);
    assert.ok((await client.ask('join', { room: 'heard' })).ok);
    const from = caller();
    await send('heard', 'heard?', from.headers);
    const tree = await collector.tree(from.trace, { publish: 1, dispatch: 1, deliver: 1, write: 1, acknowledge: 1 });
    const { write: [write], acknowledge: [acknowledge] } = tree;
    assert.deepEqual([acknowledge.service, acknowledge.kind, acknowledge.parent], ['carillon-gateway', 'client', write.id]);
    assert.deepEqual([acknowledge.attributes.session, acknowledge.attributes.acknowledged], [session, true]);
    assert.ok(acknowledge.start >= write.start && acknowledge.end >= acknowledge.start);
    assert.deepEqual(client.heard('tick').map(([data]) => data), ['heard?']);
    client.close();
  });
}

test('only what is recorded is to be acknowledged, only by clients that said so, and nobody waits for them', async () => {
  const handlers = [];
  const client = (auth) => {
    const listener = new Listener(gateways[0].url, { rooms: ['asked'], options: { transports: ['websocket'], auth } });
    listener.socket.on('tick', (...args) => handlers.push([auth.acknowledge ?? false, args[0], typeof args.at(-1) === 'function']));
    return listener;
  };
  const clients = [client({ acknowledge: true }), client({})];
  await settled(clients);
  const [recorded, unrecorded] = [caller(), caller('00')];
  await send('asked', 'recorded', recorded.headers);
  await send('asked', 'not recorded', unrecorded.headers);
  // Bytes are asked for in the same way; and this is said to a client that has answered nothing before.
  const binary = caller();
  await post(ingest.ingest, { to: { room: 'asked' }, event: 'tick', data_base64: 'AP8=' }, binary.headers);
  await until('both have heard all', () => handlers.length === 6);
  const asked = (wants) => handlers.filter(([acknowledges]) => acknowledges === wants).map(([, , callback]) => callback);
  assert.deepEqual(asked(true), [true, false, true]);
  assert.deepEqual(asked(false), [false, false, false]);

  // It never answers, and its session's end is the end of waiting.
  assert.equal(collector.of(recorded.trace).some((span) => span.name === 'acknowledge'), false);
  const session = clients[0].socket.id;
  clients.forEach((one) => one.close());
  for (const from of [recorded, binary]) {
    const { write, acknowledge } = await collector.tree(from.trace, { publish: 1, dispatch: 1, deliver: 1, write: 2, acknowledge: 1 });
    assert.deepEqual(acknowledge.map((span) => [span.attributes.session, span.attributes.acknowledged]), [[session, false]]);
    assert.ok(write.some((span) => span.id === acknowledge[0].parent && span.end < acknowledge[0].end));
  }
  assert.deepEqual(collector.of(unrecorded.trace), []);
});

test('who comes back and is caught up gets a message again without another write in its trace', async () => {
  // It never saw more than where the room was before the message, so it is told it again: from the history that another
  // gateway reads, and from the memory of the one that it comes back to, where somebody else is in the room meanwhile.
  const since = {};
  const heard = [];
  const connect = (gateway) => {
    const socket = io(gateway.url, { transports: ['websocket'], forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200, auth: (cb) => cb({ acknowledge: true, since }) });
    sockets.push(socket);
    socket.on('tick', (data, meta, acknowledge) => {
      heard.push(`${gateway.name} ${data}`);
      acknowledge?.();
    });
    return socket;
  };
  const keeper = new Listener(gateways[0].url, { rooms: ['again'], options: { transports: ['websocket'] } });
  await settled([keeper]);
  const client = connect(gateways[0]);
  await until('it is connected', () => client.connected);
  const session = client.id;
  const joined = await client.emitWithAck('join', { room: 'again' });
  since.again = joined.offset;
  const from = caller();
  await send('again', from.trace, from.headers);
  const once = async () => {
    const { write, acknowledge } = await collector.tree(from.trace, { publish: 1, dispatch: 1, deliver: 1, write: 2, acknowledge: 1 });
    assert.deepEqual(new Set(write.map(({ attributes }) => attributes.session)), new Set([keeper.socket.id, session]));
    assert.equal(acknowledge[0].attributes.session, session);
  };
  await once();

  const elsewhere = connect(gateways[1]);
  await until('the other gateway told it, too', () => heard.length === 2);
  await once();
  elsewhere.close();
  redis.cli('DEL', redis.cli('--scan', '--pattern', 'carillon:h:*:again').trim());
  client.io.engine.close();
  await until('it was told again, from memory', () => heard.length === 3);
  await once();
  assert.deepEqual(heard, [gateways[0], gateways[1], gateways[0]].map(({ name }) => `${name} ${from.trace}`));
  client.close();
  keeper.close();
});

test('where messages of many traces become one batch there are links, and what is not recorded leaves none', async () => {
  const client = new Listener(gateways[0].url, { rooms: ['merge'], options: { transports: ['websocket'] } });
  await settled([client]);
  await dispatcher.stop();
  const recorded = Array.from({ length: 5 }, () => caller());
  const unrecorded = [caller('00'), caller('00')];
  for (const from of [...recorded, ...unrecorded]) await send('merge', from.trace, from.headers);
  dispatcher = await startDispatcher();
  for (const from of [...recorded, ...unrecorded]) await have([client], from.trace);

  const trees = [];
  for (const from of recorded) trees.push(await collector.tree(from.trace, { publish: 1, dispatch: 1, deliver: 1, write: 1 }));
  const publishes = trees.map((tree) => tree.publish[0].id);
  const batch = await until('the span of the batch', () => collector.spans().find((span) => span.name === 'batch' && span.links.some(({ id }) => id === publishes[0])));
  assert.equal(batch.service, 'carillon-dispatcher');
  assert.equal(batch.parent, '', 'a trace of its own');
  assert.deepEqual(batch.links.map((link) => link.id), publishes, 'linked with each of the recorded, in order');
  assert.deepEqual([batch.attributes.frames, batch.attributes.gateways], [7, 1]);
  for (const { dispatch: [dispatch], publish: [publish] } of trees) {
    assert.equal(dispatch.parent, publish.id, 'each goes on in its own trace');
    assert.deepEqual(dispatch.links, [{ trace: batch.trace, id: batch.id }]);
  }
  for (const from of unrecorded) assert.deepEqual(collector.of(from.trace), [], 'the caller said not to record it');

  // The log of both finds the way to the traces, in either format.
  const lines = dispatcher.output().split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  const line = lines.find((one) => one.message === 'a batch was passed on' && one.trace_id === batch.trace);
  assert.ok(line, 'the batch names its trace in JSON');
  assert.equal(line.span_id, batch.id);
  for (const [number, from] of recorded.entries()) {
    assert.ok(ingest.output().includes(`trace_id=${from.trace} span_id=${publishes[number]}`), 'and a request in text');
  }
  client.close();
});

test('what a client publishes starts a trace that goes the same way, to the answer and to the sockets', async () => {
  const clients = gateways.map((gateway) => new Listener(gateway.url, { rooms: ['talk'], options: { transports: ['websocket'] } }));
  await settled(clients);
  const { ok } = await clients[0].socket.emitWithAck('publish', { room: 'talk', event: 'say', data: 'by publish' });
  assert.ok(ok);
  clients[1].socket.emit('chat message', 'by an event of its own');
  await have(clients, 'by publish');
  await have(clients, 'by an event of its own');
  for (const [event, client, outcome] of [['publish', clients[0], 'kept'], ['chat message', clients[1], undefined]]) {
    const publish = await until(`the span of ${event}`, () => collector.spans().find((span) => span.service === 'carillon-gateway' && span.name === 'publish' && span.attributes.event === event));
    assert.deepEqual([publish.kind, publish.parent, publish.attributes.session, publish.attributes.outcome], ['server', '', client.socket.id, outcome]);
    // Every session is in the room `all`, where the events of the demo go: also the two that the suite itself has.
    const write = event === 'publish' ? 2 : 4;
    const tree = await collector.tree(publish.trace, { publish: 1, dispatch: 1, deliver: 2, write });
    assert.equal(tree.dispatch[0].parent, publish.id);
    assert.ok(tree.deliver.every((deliver) => deliver.parent === tree.dispatch[0].id));
    if (outcome) assert.ok(publish.end >= publish.start && publish.end - publish.start < 60_000);
  }
  clients.forEach((client) => client.close());
});

test('an item of a list starts one, too', async () => {
  const client = new Listener(gateways[1].url, { rooms: ['listed'], options: { transports: ['websocket'] } });
  await settled([client]);
  redis.cli('RPUSH', 'bells', 'by list');
  await have([client], 'by list');
  const take = await until('the span of its taking', () => collector.spans().find((span) => span.name === 'take'));
  assert.deepEqual([take.service, take.attributes.list, take.parent], ['carillon-dispatcher', 'bells', '']);
  const tree = await collector.tree(take.trace, { take: 1, dispatch: 1, deliver: 1, write: 1 });
  assert.equal(tree.dispatch[0].parent, take.id);
  client.close();
});

test('a wide room is counted, not spelled out', async () => {
  const clients = Array.from({ length: 40 }, () => new Listener(gateways[0].url, { rooms: ['wide'], options: { transports: ['websocket'] } }));
  await settled(clients);
  const from = caller();
  await send('wide', 'to all of them', from.headers);
  await have(clients, 'to all of them');
  const tree = await collector.tree(from.trace, { publish: 1, dispatch: 1, deliver: 1, write: 16 });
  assert.equal(tree.deliver[0].attributes.sessions, 40);
  assert.equal(tree.write.length, 16);
  clients.forEach((client) => client.close());
});

test('a share is recorded where the caller has not decided, and nothing without an endpoint', async () => {
  const client = new Listener(gateways[0].url, { rooms: ['share'], options: { transports: ['websocket'] } });
  await settled([client]);
  const beacons = () => collector.spans().filter(({ name, attributes }) => name === 'dispatch' && attributes.room === 'beacon').map(({ trace }) => trace);
  const publishes = () => {
    const own = new Set(beacons());
    return collector.spans().filter((span) => span.name === 'publish' && span.service === 'carillon-ingest' && !own.has(span.trace)).length;
  };
  const ends = async (to) => {
    // What the caller wants recorded is, whatever the share; and once it is there, so is what went before.
    const from = caller();
    await send('share', from.trace, from.headers, to);
    await have([client], from.trace);
    return collector.tree(from.trace, { ...(to === off ? {} : { publish: 1 }), dispatch: 1, deliver: 1, write: 1 });
  };
  // By default nothing leaves.
  const off = await start('ingest', { CARILLON_TELEMETRY__OTLP__ENDPOINT: undefined });
  const before = publishes();
  const none = await start('ingest', { CARILLON_TELEMETRY__SAMPLE_RATIO: '0' });
  for (let n = 0; n < 20; n += 1) await send('share', `none ${n}`, {}, none);
  await ends(none);
  // Whoever is asked to go sends the last of its spans first.
  await none.stop();
  assert.equal(publishes(), before + 1, 'only what the caller wanted');

  const half = await start('ingest', { CARILLON_TELEMETRY__SAMPLE_RATIO: '0.5' });
  for (let n = 0; n < 100; n += 1) await send('share', `half ${n}`, {}, half);
  await ends(half);
  await half.stop();
  const share = publishes() - before - 2;
  assert.ok(share > 20 && share < 80, `${share} of 100`);

  // The caller's trace goes through all the same.
  await ends(off);
  client.close();
});
