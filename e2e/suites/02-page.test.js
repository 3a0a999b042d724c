// The chat page in two tabs of a real Chromium.
import assert from 'node:assert/strict';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { chromium } from 'playwright-core';
import { Service } from '../lib/processes.js';
import { until } from '../lib/until.js';

let dev;
let browser;
before(async () => {
  dev = await Service.start('dev');
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
});
after(async () => {
  await browser?.close();
  await dev?.kill();
});

const picture = (name) => path.resolve(import.meta.dirname, `../.artifacts/page-${name}.png`);

async function tab(options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const problems = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  await page.goto(dev.url);
  await until('the page is connected', async () => /connected/i.test(await page.textContent('#state')));
  return { page, problems };
}

test('what one tab says appears in both', async () => {
  const one = await tab({ colorScheme: 'light' });
  const two = await tab({ colorScheme: 'dark', viewport: { width: 390, height: 800 } });
  await one.page.fill('#message', 'hello from the first <b>tab</b>');
  await one.page.click('#send');
  for (const { page } of [one, two]) {
    await until('it appears', async () => (await page.textContent('#log')).includes('hello from the first <b>tab</b>'));
  }
  assert.notEqual(await one.page.textContent('#sid'), await two.page.textContent('#sid'));
  await one.page.screenshot({ path: picture('light') });
  await two.page.screenshot({ path: picture('dark-phone') });
  assert.deepEqual([...one.problems, ...two.problems], []);
});

test('rooms are joined, and messages of them appear', async () => {
  const { page, problems } = await tab();
  await page.fill('#room', 'tower');
  await page.click('#join');
  await until('the room is listed', async () => (await page.textContent('#rooms')).includes('tower'));
  const answer = await fetch(`${dev.ingest}/v1/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ to: { room: 'tower' }, event: 'chat message', data: 'ding' }),
  });
  assert.equal(answer.status, 202);
  await until('it appears', async () => (await page.textContent('#log')).includes('ding'));
  assert.deepEqual(problems, []);
});
