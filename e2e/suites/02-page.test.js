// The chat page in tabs of a real Chromium.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { launch } from '../lib/browser.js';
import { post } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Proxy } from '../lib/proxy.js';
import { Tab } from '../lib/tab.js';
import { until } from '../lib/until.js';

let dev;
let browser;
const tabs = [];
before(async () => {
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  fs.writeFileSync(policy, [
    'anonymous: { sessions: true, producers: true }',
    'rooms:',
    '- { match: short, join: anyone, publish: anyone, history: { size: 1 } }',
    '- { match: "*", join: anyone, publish: anyone }',
  ].join('\n'));
  dev = await Service.start('dev', { CARILLON_POLICY__FILE: policy });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await dev?.kill();
});

const picture = (name) => path.resolve(import.meta.dirname, `../.artifacts/page-${name}.png`);

async function open(options, url = dev.url) {
  const tab = await Tab.open(browser, url, options);
  tabs.push(tab);
  return tab;
}

async function send(room, data, event = 'chat message') {
  const answer = await post(dev.ingest, { to: room === 'all' ? 'all' : { room }, event, data });
  assert.equal(answer.status, 202, JSON.stringify(answer.body));
}

test('what either tab says appears in both, with who said it', async () => {
  const one = await open({ colorScheme: 'light' });
  const two = await open({ colorScheme: 'dark', viewport: { width: 390, height: 800 } });
  const sessions = [await one.session(), await two.session()];
  assert.notEqual(sessions[0], sessions[1]);
  const said = ['hello from the first <b>tab</b>', 'and from the second: hello'];
  await one.say(said[0]);
  for (const tab of [one, two]) await tab.shows('the first line', ({ what }) => what === said[0]);
  await two.say(said[1]);
  for (const [n, tab] of [one, two].entries()) {
    await tab.shows('the second line', ({ what }) => what === said[1]);
    const lines = (await tab.lines()).filter(({ kind }) => !kind.includes('note'));
    assert.deepEqual(lines.map(({ room, who, what }) => [room, who, what]), sessions.map((sid, m) => ['all', `${sid}: `, said[m]]));
    assert.deepEqual(lines.map(({ kind }) => kind), n === 0 ? ['mine', ''] : ['', 'mine']);
  }
  await one.page.screenshot({ path: picture('light') });
  await two.page.screenshot({ path: picture('dark-phone') });
});

test('what a producer sends is shown with who it says it is from, or with its event', async () => {
  const tab = await open();
  await send('all', 'sever_push: <i>ding</i>');
  const line = await tab.shows('a line with a name', ({ what }) => what === '<i>ding</i>');
  assert.deepEqual(line, { kind: '', room: 'all', who: 'sever_push: ', what: '<i>ding</i>', event: undefined });
  await send('all', { gold: 7 }, 'price');
  const price = await tab.shows('an event', ({ event }) => event !== undefined);
  assert.deepEqual(price, { kind: '', room: 'all', who: undefined, event: 'price', what: '{"gold":7}' });
});

test('rooms are joined and left, and show what is sent to them in between', async () => {
  const [goes, stays] = [await open(), await open()];
  for (const tab of [goes, stays]) {
    assert.deepEqual(await tab.rooms(), ['all']);
    await tab.join('tower');
    assert.deepEqual(await tab.rooms(), ['all', 'tower']);
  }
  await send('tower', 'ding');
  for (const tab of [goes, stays]) await tab.shows('the message', ({ room, what }) => room === 'tower' && what === 'ding');
  await stays.say('dong');
  for (const tab of [goes, stays]) await tab.shows('what one of them wrote to it', ({ room, what }) => room === 'tower' && what === 'dong');
  await goes.leave('tower');
  await goes.notes('tower', 'left');
  await send('tower', 'after it left');
  await stays.shows('what came later', ({ what }) => what === 'after it left');
  await send('all', 'to everybody');
  await goes.shows('what is sent to all', ({ what }) => what === 'to everybody');
  assert.deepEqual(await goes.heard('tower'), ['ding', 'dong']);
  assert.deepEqual(await stays.heard('tower'), ['ding', 'dong', 'after it left']);
  // What it left, it does not get by connecting again.
  assert.deepEqual(await goes.rooms(), ['all']);
});

test('a lost connection is told; what came meanwhile is caught up, or is told to be missing', async (t) => {
  const proxy = await Proxy.start(dev.gatewayPort);
  t.after(() => proxy.close());
  const tab = await open({}, proxy.url);
  for (const room of ['belfry', 'short']) await tab.join(room);
  for (const room of ['belfry', 'short']) await send(room, 'before');
  for (const room of ['belfry', 'short']) await tab.shows('what came before', (line) => line.room === room && line.what === 'before');
  proxy.away();
  const { state } = await until('the page tells that it lost its connection', async () => {
    const seen = await tab.look();
    return seen.lines.some(({ kind, what }) => kind === 'note bad' && /^connection lost \(transport (close|error)\); trying again$/.test(what)) && seen;
  });
  assert.equal(state, 'connecting');
  assert.equal(await tab.session(), '–');
  assert.ok(await tab.page.isDisabled('#send'), 'nothing can be sent meanwhile');
  await tab.page.screenshot({ path: picture('lost') });
  const meanwhile = ['one', 'two', 'three'];
  for (const what of meanwhile) for (const room of ['belfry', 'short']) await send(room, what);
  assert.deepEqual(await tab.heard('belfry'), ['before']);
  proxy.refusing = false;
  await tab.is('connected');
  await tab.notes(undefined, 'connected again');
  await tab.notes('belfry', 'caught up, nothing is missing');
  const told = await tab.notes('short', 'some messages could not be caught up; it goes on from here');
  assert.equal(told.kind, 'note bad');
  for (const room of ['belfry', 'short']) await tab.shows('the last of what came', (line) => line.room === room && line.what === 'three');
  assert.deepEqual(await tab.heard('belfry'), ['before', ...meanwhile]);
  assert.deepEqual(await tab.heard('short'), ['before', 'three']);
  const notes = (await tab.lines()).filter(({ kind }) => kind.includes('note'));
  for (const [room, never] of [['belfry', 'some messages could not be caught up; it goes on from here'], ['short', 'caught up, nothing is missing']]) {
    assert.ok(!notes.some((line) => line.room === room && line.what === never), `${room}: ${never}`);
  }
  await tab.page.screenshot({ path: picture('caught-up') });
});

test('the page is dark where the person wants it dark', async () => {
  const tab = await open({ colorScheme: 'light' });
  await tab.say('a line of its own');
  const brightness = ([red, green, blue]) => 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  const seen = {};
  for (const scheme of ['light', 'dark']) {
    await tab.page.emulateMedia({ colorScheme: scheme });
    for (const part of ['body', 'header', '#write', '#message']) {
      const { paper, ink } = await tab.colours(part);
      const lighter = brightness(paper) - brightness(ink);
      assert.ok(scheme === 'light' ? lighter > 100 : lighter < -100, `${scheme}: ${part} has ${ink} on ${paper}`);
      (seen[part] ??= []).push(`${paper}`);
    }
  }
  for (const [part, [light, dark]] of Object.entries(seen)) assert.notEqual(light, dark, part);
});

test('a phone is wide enough, whatever is on the page', async () => {
  const tab = await open({ viewport: { width: 375, height: 667 }, isMobile: true, hasTouch: true });
  const long = 'ding'.repeat(48);
  await tab.join(long);
  await tab.say(`${'dong'.repeat(100)} ${'a few words '.repeat(20)}`);
  await send(long, { [long]: long }, long);
  await tab.shows('the long event', ({ event }) => event === long);
  await tab.page.click('summary');
  const { scrollWidth, clientWidth, over } = await tab.overflow();
  assert.equal(clientWidth, 375);
  assert.ok(scrollWidth <= clientWidth, `${scrollWidth} px wide`);
  assert.deepEqual(over, []);
  await tab.page.screenshot({ path: picture('phone') });
});

test('nothing is asked for elsewhere, and nothing went wrong in any tab', async () => {
  const own = (await open()).asked;
  for (const part of ['/', '/chat.css', '/chat.js', '/socket.io/socket.io.js', '/bells.svg']) assert.ok(own.includes(`${dev.url}${part}`), `${part} is not among ${own}`);
  for (const tab of tabs) {
    const { page, asked, problems } = tab;
    const { host } = new URL(page.url());
    assert.deepEqual(await tab.refused(), []);
    assert.ok(asked.some((url) => url.startsWith(`ws://${host}/socket.io/`)), `${asked}`);
    assert.deepEqual(asked.filter((url) => new URL(url).host !== host), []);
    assert.deepEqual(problems, []);
  }
});
