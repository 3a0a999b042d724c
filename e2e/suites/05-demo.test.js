// The demo as it was: a script that RPUSHes 100 lines, two dispatchers, one killed between taking items and appending them.
import assert from 'node:assert/strict';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { canary } from '../lib/canaries.js';
import { Listener } from '../lib/listener.js';
import { Service } from '../lib/processes.js';
import { Proxy } from '../lib/proxy.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

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
  const proxy = await Proxy.start(redis.port);
  let first;
  const taken = new Promise((resolve) => {
    // The world stops for this dispatcher when it has taken items: its answer arrives nowhere, and it dies.
    proxy.watch = (direction, bytes) => {
      if (direction === 'down' && proxy.armed && bytes.includes('line 42')) {
        proxy.armed = false;
        first.process.kill('SIGKILL');
        resolve();
        return false;
      }
      return true;
    };
  });
  proxy.armed = true;
  first = await start('dispatcher', { CARILLON_REDIS__URL: `redis://127.0.0.1:${proxy.port}` });
  const tabs = gateways.map((gateway) => new Listener(gateway.url));
  await until('the tabs are settled', () => tabs.every((tab) => tab.settled));
  const pushed = Array.from({ length: 100 }, (_, n) => canary('payload', `line ${n}`));
  for (const line of pushed) redis.cli('RPUSH', 'message', line);
  await taken;
  await start('dispatcher');
  const expected = pushed.map((line) => `sever_push: ${line}`);
  for (const tab of tabs) {
    await until('all lines came', () => tab.of('all').length >= 100, 60_000);
    assert.deepEqual(tab.of('all').map(({ data }) => data), expected);
    assert.ok(tab.of('all').every(({ event }) => event === 'chat message'));
  }
  const chat = io(gateways[0].url, { forceNew: true });
  await until('connected', () => chat.connected);
  chat.emit('chat message', canary('payload'));
  for (const tab of tabs) {
    await until('the chat line came', () => tab.of('all').some(({ data }) => data === `${chat.id}: ${canary('payload')}`));
  }
  chat.close();
  tabs.forEach((tab) => tab.close());
  proxy.close();
});
