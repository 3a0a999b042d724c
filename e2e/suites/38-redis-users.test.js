// Every service as a user of its own in Redis, with exactly the rights that docs/security.md gives it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { canary } from '../lib/canaries.js';
import { sh } from '../lib/cli.js';
import { token } from '../lib/jwt.js';
import { Listener } from '../lib/listener.js';
import { Producer, post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';
import { entry } from '../lib/wire.js';

const secret = canary('token-key');
const password = (user) => canary('redis-password', user);
/** user → the words of its line */
const users = new Map();
const page = fs.readFileSync(path.resolve(import.meta.dirname, '../../docs/security.md'), 'utf8');
for (const [, user, rights] of page.matchAll(/^ACL SETUSER (carillon-\w+) ([^`]*)```/gm)) {
  users.set(user, rights.trim().replace('>password', `>${password(user)}`).split(/\s+/));
}

const children = [];
/** Processes that Redis knows of as alive. */
const alive = () => redis.cli('--scan', '--pattern', 'carillon:alive:*').split('\n').filter(Boolean).length;
const settings = { CARILLON_IDENTITY__HS256_SECRET: secret };
let redis;
let gateway;
let dispatcher;
let ingest;
let producer;

const as = (user) => ({ CARILLON_REDIS__URL: `redis://carillon-${user}:${password(`carillon-${user}`)}@127.0.0.1:${redis.port}` });
const start = async (kind, options) => {
  const service = await Service.start(kind, { ...settings, ...as(kind) }, options);
  children.push(service);
  return service;
};
/** What Redis answers to a user; its complaints, too. */
const ask = (user, ...command) => redis.cli('--user', `carillon-${user}`, '--pass', password(`carillon-${user}`), '--no-auth-warning', ...command);
const tool = (line) => {
  const done = sh(`carillon ${line} --output json`, { env: { ...settings, ...as('tools'), CARILLON_BROKER__PARTITIONS: '8' } });
  assert.equal(done.status, 0, `${line}\n${done.stdout}${done.stderr}`);
  return done.stdout.split('\n').filter(Boolean).map((text) => JSON.parse(text));
};
const listen = async (user, rooms) => {
  const listener = new Listener(gateway.url, { rooms, token: token(secret, { sub: user }) });
  await until(`${user} is settled`, () => listener.settled);
  return listener;
};
/** What Redis denied. */
const denied = () => redis.cli('ACL', 'LOG').trim();

before(async () => {
  redis = await Redis.start({ users: [...users].map(([user, rights]) => `user ${user} ${rights.slice(1).join(' ')}`) });
  children.push({ kill: () => redis.stop() });
  // The operator's part: the policy, which everybody takes from Redis.
  const policy = [
    'anonymous: { sessions: false, producers: true }',
    'rooms: [{ match: plain, join: authenticated, history: { size: 0 } }, { match: "*", join: authenticated, publish: authenticated, presence: true, history: { size: 20 } }]',
    'intake: { lists: [{ list: message, room: lobby, event: line, format: "{data}" }] }',
  ].join('\n');
  assert.equal(ask('operator', 'HSET', 'carillon:policy', 'revision', '1', 'document', policy), '2\n');
  dispatcher = await start('dispatcher');
  gateway = await start('gateway');
  ingest = await start('ingest');
  for (const service of [dispatcher, gateway, ingest]) {
    await until('the policy came from Redis', () => service.output().includes('took the policy from the broker'));
  }
  producer = new Producer(ingest.ingest);
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

test('the page has a line for each service', () => {
  assert.deepEqual([...users.keys()].sort(), ['carillon-dispatcher', 'carillon-gateway', 'carillon-ingest', 'carillon-operator', 'carillon-tools']);
});

test('everything works, and nothing is denied', async () => {
  const anna = await listen('anna', ['lobby']);
  const bert = await listen('bert', ['lobby']);
  const both = [anna, bert];
  // Producers: plain, by key and its repetition, to several rooms; more than the history keeps.
  for (let n = 0; n < 30; n += 1) await producer.send({ to: { room: 'lobby' }, event: 'price', data: n });
  await producer.send({ to: { users: ['anna', 'bert'] }, event: 'you', data: 1 });
  await producer.send({ to: 'all', event: 'news', data: 1 });
  await producer.send({ to: { room: 'plain' }, event: 'nothing is kept of this', data: 1 });
  const keyed = { to: { room: 'lobby' }, event: 'once', data: 1, idempotency_key: 'k' };
  assert.deepEqual((await post(ingest.ingest, keyed)).body, (await post(ingest.ingest, keyed)).body);
  // Clients: publish with a key, history, presence, leaving, coming back with cursors.
  const said = await bert.socket.emitWithAck('publish', { room: 'lobby', event: 'note', data: canary('payload', 'é'), key: 'mine' });
  assert.ok(said.ok, JSON.stringify(said));
  await until('both have all', () => both.every((client) => client.of('lobby').length === 32));
  const { messages } = await anna.socket.emitWithAck('history', { room: 'lobby', limit: 5 });
  assert.equal(messages[0].data, canary('payload', 'é'));
  assert.ok((await anna.socket.emitWithAck('join', { room: 'lobby', presence: true })).ok);
  await until('both are seen', async () => {
    const { users: seen } = await anna.socket.emitWithAck('presence', { room: 'lobby' });
    return seen?.length === 2;
  });
  const presence = await until('a producer sees them', async () => {
    const answer = await (await fetch(`${ingest.ingest}/v1/rooms/lobby/presence`)).json();
    return answer.users?.length === 2 && answer;
  });
  assert.deepEqual(presence.users.sort(), ['anna', 'bert']);
  bert.socket.io.engine.close();
  await until('he is back', () => bert.connects === 2 && bert.settled);
  // Plain lists.
  redis.cli('RPUSH', 'message', 'from a script');
  await until('it came from the list', () => both.every((client) => client.of('lobby').at(-1)?.data === 'from a script'));
  // An owner that died before it had settled an item left it pending: the next one sends it again, with its number.
  const [state] = redis.cli('--scan', '--pattern', 'carillon:list.state:*').split('\n');
  const pending = state.replace('list.state', 'list.pending');
  redis.cli('HSET', pending, redis.cli('HGET', state, 'number').trim(), 'from a script');
  redis.cli('RPUSH', 'message', 'and another');
  await until('the next came', () => both.every((client) => client.of('lobby').at(-1)?.data === 'and another'));
  await until('both are settled', () => redis.cli('EXISTS', pending).trim() === '0');
  both.forEach((client) => assert.equal(client.of('lobby').filter(({ data }) => data === 'from a script').length, 1));
  both.forEach((client) => assert.deepEqual(client.audit(producer.accepted, ['lobby']), []));
  // Dead letters, by the tools' user: one that can't be read, one that can be sent again.
  const [queue] = redis.cli('--scan', '--pattern', 'carillon:q:*').split('\n');
  redis.cli('XADD', queue, '*', 'e', 'nonsense');
  const [unreadable] = await until('it is buried', () => { const letters = tool('dlq list'); return letters.length === 1 && letters; });
  assert.deepEqual(tool(`dlq drop ${unreadable.id}`), [{ dropped: unreadable.id }]);
  redis.cli('XADD', queue.replace(':q:', ':dlq:'), '*', 'source', '{"queue":"1-0"}', 'reason', 'a test', 'entry', entry('lobby', 'again'));
  const [letter] = tool('dlq list');
  assert.equal(tool(`dlq replay ${letter.id}`)[0].replayed, letter.id);
  await until('it came again', () => both.every((client) => client.of('lobby').at(-1)?.data === 'again'));
  assert.deepEqual(tool('dlq list'), []);
  assert.equal(tool('rooms lobby')[0].gateways.length, 1);
  assert.ok(tool('rooms').some(({ room }) => room === 'user:anna'));
  assert.equal(tool('gateways').length, 1);
  const checks = tool('config check --connect');
  assert.ok(checks.length > 4 && checks.every(({ ok }) => ok), JSON.stringify(checks));
  assert.match(tool('policy explain lobby anna')[0].policy, /in Redis/);
  both.forEach((client) => client.close());
  assert.equal(denied(), '');
});

test('deaths, departures and a restart of Redis ask for nothing more', async () => {
  const anna = await listen('anna', ['lobby']);
  const second = [await start('dispatcher'), await start('gateway')];
  const bert = new Listener(second[1].url, { rooms: ['lobby'], token: token(secret, { sub: 'bert' }) });
  await until('bert is settled', () => bert.settled);
  const send = async (data) => {
    await producer.send({ to: { room: 'lobby' }, event: 'price', data });
    await until(`${data} came`, () => anna.of('lobby').at(-1)?.data === data, 60_000);
  };
  await send('before');
  bert.close();
  await dispatcher.kill();
  await second[1].kill();
  await send('after the deaths');
  await until('the dead are cleared away', () => Number(redis.cli('HLEN', 'carillon:members')) === alive(), 60_000);
  await redis.child.kill();
  await redis.run();
  await send('after the restart');
  assert.equal((await second[0].stop()).code, 0);
  await start('dispatcher');
  await send('after the departure');
  assert.deepEqual(anna.audit(producer.accepted, ['lobby']), []);
  anna.close();
  assert.equal(denied(), '');
});

test('without one command of its line a service fails, and says which', async () => {
  const anna = await listen('anna', ['lobby']);
  const without = (user, word, change) => {
    const rights = users.get(`carillon-${user}`);
    assert.ok(rights.includes(word), word);
    redis.cli('ACL', 'SETUSER', `carillon-${user}`, ...rights.map((right) => (right === word ? change : right)));
  };
  const restore = (user) => redis.cli('ACL', 'SETUSER', `carillon-${user}`, ...users.get(`carillon-${user}`));

  without('ingest', '(+xadd', '(');
  const refused = await post(ingest.ingest, { to: { room: 'lobby' }, event: 'price', data: 1 });
  assert.equal(refused.status, 503);
  assert.match(refused.body.detail, /docs\/security.md/);
  assert.match(denied(), /xadd/);
  restore('ingest');

  without('dispatcher', '(+smembers', '(');
  const { offset } = (await producer.send({ to: { room: 'lobby' }, event: 'price', data: 2 })).rooms[0];
  // The command is allowed for other keys, so Redis names the key.
  await until('it is denied', () => /smembers|carillon:r:/.test(denied()));
  assert.ok(anna.of('lobby').every((message) => message.offset !== offset));
  restore('dispatcher');
  await until('it came late', () => anna.of('lobby').some((message) => message.offset === offset), 60_000);

  without('gateway', '(+sadd', '(');
  const answer = await new Promise((resolve) => { anna.socket.timeout(5_000).emit('join', { room: 'new' }, (late, told) => resolve(late ? 'no answer' : told)); });
  assert.ok(answer === 'no answer' || !answer.ok, JSON.stringify(answer));
  restore('gateway');
  await until('it may join again', async () => (await anna.socket.timeout(20_000).emitWithAck('join', { room: 'new' })).ok);
  anna.close();
  redis.cli('ACL', 'LOG', 'RESET');
});

test('nobody may do what is not its business', () => {
  const [queue] = redis.cli('--scan', '--pattern', 'carillon:q:*').split('\n');
  const tag = queue.slice(queue.indexOf('{'));
  const history = `carillon:h:${tag}:lobby`;
  for (const user of ['ingest', 'dispatcher', 'gateway', 'operator', 'tools']) {
    assert.match(ask(user, 'PING'), /PONG/);
    for (const command of [
      ['FLUSHALL'], ['KEYS', '*'], ['CONFIG', 'SET', 'appendonly', 'no'], ['ACL', 'LIST'], ['CLIENT', 'LIST'], ['MONITOR'],
      ['SET', 'carillon:other', '1'], ['GET', 'sess:1'], ['XADD', history, '*', 'e', ''], ['DEL', queue], ['DEL', 'carillon:meta'], ['PUBLISH', 'x', 'y'],
      ['EVAL', 'return redis.call("FLUSHALL")', '0'],
    ]) {
      if (user === 'dispatcher' && command[1] === history) continue;
      assert.match(ask(user, ...command), /NOPERM|no permissions|can't run this command/i, `${user} ${command.join(' ')}`);
    }
    if (user !== 'operator') assert.match(ask(user, 'HSET', 'carillon:policy', 'revision', '2'), /NOPERM/, user);
  }
  assert.match(ask('operator', 'XRANGE', queue, '-', '+'), /NOPERM/);
  for (const user of ['ingest', 'operator']) {
    assert.match(ask(user, 'XRANGE', history, '-', '+'), /NOPERM/, user);
  }
  for (const user of ['ingest', 'gateway', 'operator', 'tools']) {
    assert.match(ask(user, 'SET', `carillon:lease:${tag}`, '1'), /NOPERM/, user);
    assert.match(ask(user, 'LPOP', 'message'), /NOPERM/, user);
  }
});
