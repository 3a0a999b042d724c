// The ways between processes in `make chaos`: each way to trouble them does what its name says, and heals.
import assert from 'node:assert/strict';
import net from 'node:net';
import test, { after, before } from 'node:test';
import { Link } from '../chaos/link.js';
import { until } from '../lib/until.js';

let server;
/** What came to the far side, and the sockets there. */
const there = { text: '', sockets: new Set() };

before(async () => {
  server = net.createServer((socket) => {
    there.sockets.add(socket);
    socket.on('error', () => {}).on('close', () => there.sockets.delete(socket));
    socket.on('data', (bytes) => {
      there.text += bytes;
      socket.write(`${bytes.toString().toUpperCase()}`);
    });
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
});
after(() => {
  there.sockets.forEach((socket) => socket.destroy());
  server.close();
});

/** A link to the server, and a connection over it. */
async function linked(t) {
  const link = await Link.to(server.address().port);
  t.after(() => link.close());
  const connect = () => {
    const socket = net.connect(link.port, '127.0.0.1');
    const end = { socket, text: '', closed: false };
    socket.on('data', (bytes) => { end.text += bytes; }).on('error', () => {}).on('close', () => { end.closed = true; });
    t.after(() => socket.destroy());
    return end;
  };
  const end = connect();
  end.socket.write('hello ');
  await until('it is answered', () => end.text === 'HELLO ');
  there.text = '';
  return { link, end, connect };
}

test('cut before the command: it never arrives; cut after: it does, and is not answered', async (t) => {
  for (const [way, arrives] of [['cutBefore', false], ['cutAfter', true]]) {
    const { link, end, connect } = await linked(t);
    link[way]((bytes) => bytes.includes('set'));
    end.socket.write('get ');
    await until('other commands pass', () => end.text === 'HELLO GET ');
    end.socket.write('set ');
    await until('it is cut', () => end.closed);
    assert.equal(end.text, 'HELLO GET ', way);
    assert.equal(there.text, arrives ? 'get set ' : 'get ', way);
    link.heal();
    const next = connect();
    next.socket.write('set ');
    await until('it passes again', () => next.text === 'SET ');
    next.socket.destroy();
  }
});

test('silence: connections are taken and carry nothing, and are reset when it heals', async (t) => {
  const { link, end, connect } = await linked(t);
  link.silence();
  end.socket.write('lost ');
  const another = connect();
  await until('it is taken', () => another.socket.readyState === 'open');
  another.socket.write('lost ');
  const { link: other, end: witness } = await linked(t);
  witness.socket.write('seen ');
  await until('others are answered', () => witness.text === 'HELLO SEEN ');
  other.cut();
  assert.equal(there.text, 'seen ');
  assert.ok(!end.closed && !another.closed);
  link.heal();
  await until('both are reset', () => end.closed && another.closed);
});

test('half-open: the far side is gone and nobody is told; new connections work', async (t) => {
  const { link, end, connect } = await linked(t);
  link.halve();
  await until('the far side is gone', () => there.sockets.size === 0);
  end.socket.write('lost ');
  const next = connect();
  next.socket.write('new ');
  await until('a new one is answered', () => next.text === 'NEW ');
  assert.equal(there.text, 'new ');
  assert.ok(!end.closed);
  link.heal();
  await until('the half one is reset', () => end.closed);
});

test('refuse and lead: nobody gets in until it heals, and then elsewhere', async (t) => {
  const { link, end, connect } = await linked(t);
  link.refuse();
  await until('it is cut', () => end.closed);
  const refused = connect();
  await until('it is refused', () => refused.closed);
  link.heal();
  const elsewhere = net.createServer((socket) => socket.end('elsewhere'));
  await new Promise((resolve) => { elsewhere.listen(0, '127.0.0.1', resolve); });
  t.after(() => elsewhere.close());
  link.lead(elsewhere.address().port);
  const next = connect();
  await until('it is led elsewhere', () => next.text === 'elsewhere');
});

test('delay and throttle: everything comes in order, later', async (t) => {
  const { link, end } = await linked(t);
  link.delay(50);
  link.throttle(20_000);
  const began = performance.now();
  const words = Array.from({ length: 200 }, (_, n) => `w${n} `);
  for (const word of words) end.socket.write(word);
  const whole = `HELLO ${words.join('').toUpperCase()}`;
  await until('all came', () => end.text.length === whole.length);
  assert.equal(end.text, whole);
  assert.ok(performance.now() - began >= 100, 'there and back');
  link.heal();
});

test('a slow way holds up who sends, and lets go again', async (t) => {
  const { link, end } = await linked(t);
  link.throttle(4 << 20);
  const bytes = 2 << 20;
  end.socket.write(Buffer.alloc(bytes, 'x'));
  await until('all came', () => end.text.length === 'HELLO '.length + bytes);
});
