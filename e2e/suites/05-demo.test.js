// The demo as it was: a script that RPUSHes 100 lines, two dispatchers, of which the one that has the list is killed
// between taking lines and appending them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { promisify } from 'node:util';
import { io } from 'socket.io-client';
import { canary } from '../lib/canaries.js';
import { Listener } from '../lib/listener.js';
import { Service } from '../lib/processes.js';
import { Proxy } from '../lib/proxy.js';
import { CLI, Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const run = promisify(execFile);
const children = [];
let redis;
let settings;
const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};
before(async () => {
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: path.resolve(import.meta.dirname, '../../deploy/examples/demo.yaml') };
});
after(async () => { for (const child of children.reverse()) await child.kill(); });

test('every tab shows the 100 lines in order, once', async () => {
  const gateways = [await start('gateway'), await start('gateway')];
  const tabs = gateways.map((gateway) => new Listener(gateway.url));
  // Each dispatcher has a way of its own to Redis. What first comes down one of them with line 42 in it is the answer to
  // taking it. It arrives nowhere: the world stops for this dispatcher, and it dies.
  let armed = true;
  const dispatchers = [];
  let taken;
  /** Who died, and what was taken and not appended then. */
  const died = new Promise((resolve) => { taken = resolve; });
  for (const number of [0, 1]) {
    const proxy = await Proxy.start(redis.port);
    children.push({ kill: () => proxy.close() });
    proxy.watch = (direction, bytes) => {
      if (direction === 'down' && armed && bytes.includes('line 42')) {
        armed = false;
        dispatchers[number].process.kill('SIGKILL');
        taken({ first: dispatchers[number], pending: redis.cli('HVALS', 'carillon:list.pending:{message}') });
        return false;
      }
      return true;
    };
    dispatchers.push(await start('dispatcher', { CARILLON_REDIS__URL: `redis://127.0.0.1:${proxy.port}` }));
  }
  const sum = async (kind) => {
    const owned = await Promise.all(dispatchers.map((dispatcher) => dispatcher.metric('carillon_dispatcher_owned', kind)));
    return owned.reduce((a, b) => a + b);
  };
  const living = async () => (await Promise.all(dispatchers.map((dispatcher) => dispatcher.metric('carillon_dispatcher_living')))).every((count) => count === 2);
  await until('both know of each other, and one of them has the list', async () => (await living()) && (await sum('"list"')) === 1 && (await sum('"partition"')) === 8);
  await until('the tabs are settled', () => tabs.every((tab) => tab.settled));
  const owner = redis.cli('HGET', 'carillon:list.state:{message}', 'owner').trim();
  const pushed = Array.from({ length: 100 }, (_, n) => canary('payload', `line ${n}`));
  // Not all at once, so that lines are taken before the one, with it and after it.
  const pushing = (async () => { for (const line of pushed) await run(CLI, ['-p', `${redis.port}`, 'RPUSH', 'message', line]); })();
  const { first, pending } = await died;
  await first.ended;
  assert.ok(owner.startsWith(`${first.name}@`), `${owner} had the list, and ${first.name} died`);
  assert.ok(pending.includes('line 42'), `taken: ${pending}`);
  await pushing;
  const expected = pushed.map((line) => `sever_push: ${line}`);
  const second = dispatchers.find((dispatcher) => dispatcher !== first);
  for (const tab of tabs) {
    await until('all lines came', () => tab.of('all').length >= 100, 60_000);
    assert.deepEqual(tab.of('all').map(({ data }) => data), expected);
    assert.ok(tab.of('all').every(({ event }) => event === 'chat message'));
  }
  assert.ok((await second.metric('carillon_dispatcher_list_items_total', '"appended"')) > 0, 'the other one went on');
  const chat = io(gateways[0].url, { forceNew: true });
  await until('connected', () => chat.connected);
  chat.emit('chat message', canary('payload'));
  for (const tab of tabs) {
    await until('the chat line came', () => tab.of('all').some(({ data }) => data === `${chat.id}: ${canary('payload')}`));
  }
  chat.close();
  tabs.forEach((tab) => tab.close());
});
