// Ingest describes itself: schemathesis, which knows nothing but the document, finds no answer that is not in it; and
// the page that shows the document to people shows all of it, in a real browser.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { launch } from '../lib/browser.js';
import { canary } from '../lib/canaries.js';
import { Service } from '../lib/processes.js';
import { python } from '../lib/python.js';

const key = canary('openapi-key');
let dev;
let document;

before(async () => {
  const policy = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml');
  const hash = createHash('sha256').update(key).digest('hex');
  fs.writeFileSync(policy, [
    'rooms: [{ match: "*", presence: true }]',
    `producers: [{ name: desk, key_sha256: ${hash}, rooms: ["*"], rate: 1000000/s }]`,
    'cloudevents: { to: { room: "orders-{type}" } }',
  ].join('\n'));
  dev = await Service.start('dev', { CARILLON_POLICY__FILE: policy });
  document = await (await fetch(`${dev.ingest}/openapi.json`)).json();
});
after(() => dev.kill());

const picture = (name) => path.resolve(import.meta.dirname, `../.artifacts/docs-${name}.png`);

/** Runs schemathesis to its end. */
function schemathesis(args) {
  const cli = path.join(path.dirname(python), 'schemathesis');
  const config = path.resolve(import.meta.dirname, '../schemathesis.toml');
  return new Promise((resolve) => {
    execFile(cli, ['--config-file', config, 'run', `${dev.ingest}/openapi.json`, '--no-color', ...args], {
      cwd: path.resolve(import.meta.dirname, '..'),
      timeout: 240_000,
      maxBuffer: 64 << 20,
    }, (error, stdout, stderr) => resolve({ code: error ? error.code : 0, output: stdout + stderr }));
  });
}

test('no answer is missing in the document', { timeout: 280_000 }, async () => {
  const { code, output } = await schemathesis(['--header', `Authorization: Bearer ${key}`]);
  assert.equal(code, 0, output);
  assert.equal(await dev.metric('carillon_ingest_rejections_total', 'reason="unavailable"'), 0);
  assert.ok(await dev.metric('carillon_ingest_messages_total') > 100, output);
});

test('the page shows all of it, to phones and at night too, and fetches nothing', async () => {
  const browser = await launch();
  try {
    for (const [name, options] of [['light', {}], ['dark-phone', { colorScheme: 'dark', viewport: { width: 390, height: 800 } }]]) {
      const page = await (await browser.newContext(options)).newPage();
      const asked = [];
      const problems = [];
      page.on('request', (request) => asked.push(request.url()));
      page.on('pageerror', (error) => problems.push(String(error)));
      page.on('console', (message) => { if (message.type() === 'error') problems.push(message.text()); });
      await page.goto(`${dev.ingest}/docs`);
      const text = await page.textContent('main');
      for (const [path, item] of Object.entries(document.paths)) {
        assert.ok(text.includes(path), path);
        for (const { operationId, responses } of Object.values(item)) {
          const section = await page.textContent(`#${operationId}`);
          for (const status of Object.keys(responses)) assert.ok(section.includes(status), `${operationId} ${status}`);
        }
      }
      for (const schema of Object.keys(document.components.schemas)) assert.ok(await page.$(`#schema-${schema}`), schema);
      assert.ok(!text.includes('undefined') && !text.includes('[object'), text);
      const { wide, width } = await page.evaluate(() => ({ wide: globalThis.document.documentElement.scrollWidth, width: globalThis.innerWidth }));
      assert.ok(wide <= width, `${wide} px of ${width}`);
      await page.screenshot({ path: picture(name) });
      await page.evaluate(() => globalThis.document.querySelectorAll('details').forEach((details) => { details.open = true; }));
      await page.screenshot({ path: picture(`${name}-open`), fullPage: true });
      assert.deepEqual(problems, []);
      assert.deepEqual(asked.filter((url) => !url.startsWith('data:')), [`${dev.ingest}/docs`]);
    }
  } finally {
    await browser.close();
  }
});
