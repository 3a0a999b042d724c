// Stock libraries of four kinds, unmodified: each plays the same scenario over each transport, and they hear each other.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import test, { after, before } from 'node:test';
import { Listener } from '../lib/listener.js';
import { compare } from '../lib/offsets.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { StockClient, libraries, threaded } from '../lib/stock.js';
import { until } from '../lib/until.js';

let dev;
let producer;
before(async () => {
  dev = await Service.start('dev');
  producer = new Producer(dev.ingest);
});
after(() => dev?.kill());

const transports = {
  'WebSocket only': ['websocket'],
  'polling, then upgrade': undefined,
  'polling for good': ['polling'],
};
// What may be damaged on the way by whoever is careless with text, numbers or bytes.
const everything = {
  text: 'plain',
  'no text': '',
  unicode: 'grüße, 世界, مرحبا',
  'beyond the basic plane': '🔔 𝄞 👩‍👩‍👧‍👦',
  combining: 'e\u0301 is not \u00e9, 각 is not 각',
  'hard to escape': '"\\/ \0\u0007\u001f\t\r\n\u007f\u0085\u00a0\u2028\u2029\ufeff</script>%25&+',
  'nested JSON': { a: [1, 2.5, -3, 1e21, true, false, null, {}, [], [[]], ''], 'ключ 🔑': { 'e\u0301': { deep: [{ er: 9007199254740991 }] } }, '': 0 },
  'a list': [1, 'two', { three: 3 }],
  number: -0.5,
  'true': true,
  nothing: null,
  bytes: Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
  'many bytes': randomBytes(40_000),
};
const event = 'läuten 🔔';
const same = (got, sent, what) => {
  // The witness gets bytes as its library gives them.
  if (Buffer.isBuffer(sent)) assert.deepEqual(Buffer.from(got), sent, what);
  else assert.deepEqual(got, sent, what);
};

// As it was sent: by the place in the room where a library's threads mix it up.
const inOrder = (library, heard) => (library === threaded ? [...heard].sort(([, a], [, b]) => compare(a.offset, b.offset)) : heard);

for (const library of Object.keys(libraries)) {
  const values = Object.fromEntries(Object.entries(everything).filter(([, value]) => library !== threaded || !Buffer.isBuffer(value)));
  for (const [way, list] of Object.entries(transports)) {
    test(`${library}, ${way}: join, publish, hear, leave`, async () => {
      const room = `Glocken 鐘 ${library} ${way}`;
      const witness = new Listener(dev.url, { rooms: [room], options: { transports: ['websocket'] } });
      const client = await StockClient.start(library, dev.gatewayPort, { transports: list, events: ['cursors', event, 'tick'] });
      await client.connected();
      await until('the witness listens', () => witness.settled);
      const joined = await client.ask('join', { room });
      assert.deepEqual(joined, { ok: true, room, offset: joined.offset, recovered: true });
      const { args: [places] } = await client.tells('told where it is', (line) => line.event === 'cursors' && line.args[0][room]);
      assert.deepEqual(places[room], { offset: joined.offset, recovered: true });
      assert.ok(client.heard('cursors').some(([rooms]) => rooms.all?.recovered), 'and in `all`');

      if (!list) {
        await until('it asks over its WebSocket', async () => {
          const posts = client.polls('POST');
          await client.ask('join', { room });
          return client.websockets().length === 1 && client.polls('POST') === posts;
        });
        assert.ok(client.requests[0].transport === 'polling' && client.websockets()[0].sid, 'it upgraded what began with polling');
      }
      const requests = client.requests.length;

      const receipts = [];
      for (const [name, value] of Object.entries(values)) {
        const receipt = await client.ask('publish', { room, event, data: value });
        assert.ok(receipt.ok && receipt.id && receipt.offset, `${name}: ${JSON.stringify(receipt)}`);
        receipts.push({ id: receipt.id, room, offset: receipt.offset });
      }
      for (const value of Object.values(values)) {
        const data = Buffer.isBuffer(value) ? { data_base64: value.toString('base64') } : { data: value };
        const { id, rooms } = await producer.send({ to: { room }, event, ...data });
        receipts.push({ id, ...rooms[0] });
      }
      const names = [...Object.keys(values), ...Object.keys(values).map((name) => `${name}, posted`)];
      const sent = [...Object.values(values), ...Object.values(values)];
      await until('it heard all', () => client.heard(event).length >= sent.length);
      await until('and the witness', () => witness.of(room).length >= sent.length);
      assert.equal(client.heard(event).length, sent.length);
      inOrder(library, client.heard(event)).forEach(([data, meta], n) => {
        same(data, sent[n], names[n]);
        same(witness.of(room)[n].data, sent[n], `${names[n]}, at the witness`);
        assert.deepEqual(meta, { ...receipts[n], ts: meta.ts }, names[n]);
        assert.ok(Math.abs(meta.ts - Date.now()) < 600_000, names[n]);
      });
      assert.deepEqual(witness.of(room).map(({ id, offset }) => ({ id, room, offset })), receipts);

      // History comes in an acknowledgement, with bytes in it.
      const { ok, messages } = await client.ask('history', { room, limit: sent.length });
      assert.ok(ok);
      messages.forEach(({ data, offset }, n) => {
        same(data, sent.at(-1 - n), `${names.at(-1 - n)}, of history`);
        assert.equal(offset, receipts.at(-1 - n).offset);
      });

      // What is sent without waiting stays in order.
      await Promise.all(Array.from({ length: 30 }, (_, n) => client.ask('publish', { room, event: 'tick', data: n })));
      await until('all came', () => client.heard('tick').length >= 30);
      assert.deepEqual(inOrder(library, client.heard('tick')).map(([data]) => data), Array.from({ length: 30 }, (_, n) => n));

      if (list?.[0] === 'websocket') assert.equal(client.polls(), 0, 'it never polled');
      if (list?.[0] === 'polling') assert.equal(client.websockets().length, 0, 'it only polled');
      else assert.equal(client.requests.length, requests, 'it needed no other request');

      assert.deepEqual(await client.ask('join', { room: 'user:somebody' }).then(({ ok: good, error }) => [good, error.code]), [false, 'reserved_room']);
      assert.deepEqual(await client.ask('leave', { room }), { ok: true });
      await client.tells('told that it left', (line) => line.event === 'cursors' && line.args[0][room] === null);
      await producer.send({ to: { room }, event: 'tick', data: 'not for it' });
      await producer.send({ to: 'all', event: 'tick', data: 'for it' });
      await client.tells('what goes to all', (line) => line.event === 'tick' && line.args[0] === 'for it');
      assert.ok(!client.heard('tick').some(([data]) => data === 'not for it'));
      assert.deepEqual(client.told.filter(({ disconnected, refused }) => disconnected || refused), []);
      client.close();
      witness.close();
    });
  }

  test(`${library}: a refusal says its code`, async () => {
    const client = await StockClient.start(library, dev.gatewayPort, { auth: { since: { lobby: 'yesterday' } } });
    const { refused } = await client.tells('refused', (line) => line.refused);
    assert.match(refused, /^bad_since: `since\.lobby`/);
    client.close();
  });
}

test('all libraries in one room hear each other, in the same order', async () => {
  const room = 'tower';
  const names = Object.keys(libraries);
  const clients = await Promise.all(names.map((library) => StockClient.start(library, dev.gatewayPort, { events: ['peal'] })));
  for (const client of clients) {
    await client.connected();
    await client.ask('join', { room });
  }
  const receipts = await Promise.all(clients.flatMap((client, from) => Array.from({ length: 10 }, (_, n) => client.ask('publish', { room, event: 'peal', data: { from: names[from], n, text: '🔔'.repeat(n) } }))));
  assert.ok(receipts.every((receipt) => receipt.ok));
  const order = receipts.map(({ offset }) => offset).sort(compare);
  for (const [n, client] of clients.entries()) {
    await until(`${names[n]} heard all`, () => client.heard('peal').length >= order.length);
    const heard = inOrder(names[n], client.heard('peal'));
    assert.deepEqual(heard.map(([, { offset }]) => offset), order, names[n]);
    assert.deepEqual(heard.map(([data]) => data), clients[0].heard('peal').map(([data]) => data), names[n]);
  }
  for (const name of names) {
    assert.deepEqual(clients[0].heard('peal').filter(([{ from }]) => from === name).map(([{ n }]) => n), Array.from({ length: 10 }, (_, n) => n), name);
  }
  clients.forEach((client) => client.close());
});
