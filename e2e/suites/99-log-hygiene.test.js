// No secret in any log: all suites before this one ran everything at `trace`, with secrets that can be recognised.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { canary, disguises, leaks, logs, marker, planted } from '../lib/canaries.js';

const KINDS = ['token', 'token-key', 'cookie', 'cookie-key', 'engine-id', 'forwarding-secret', 'payload', 'producer-key', 'redis-password'];

test('a secret would be found, however it is written', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-logs-'));
  const secrets = new Map([['cookie', new Set(['s%3Aabcdefghijklmnop.qrst'])]]);
  const lines = [
    `INFO harmless ${marker.slice(0, 10)}`, `TRACE key=${canary('producer-key', '7')}`, 'DEBUG cookie: "sid=s%3Aabcdefghijklmnop.qrst"',
    ...disguises(marker).slice(1).map((text) => `TRACE ${text}`),
    ...[0, 1, 2].map((before) => `TRACE ${Buffer.from(`${'x'.repeat(before)}${marker}y`).toString('base64')}`),
  ];
  fs.writeFileSync(path.join(folder, 'a.log'), lines.join('\n'));
  const found = leaks(folder, secrets);
  assert.deepEqual([...new Set(found.map(({ line }) => line))], lines.map((_, n) => n + 1).slice(1));
  assert.deepEqual(found.slice(0, 2), [{ file: './a.log', line: 2, kind: 'producer-key' }, { file: './a.log', line: 3, kind: 'cookie' }]);
  fs.rmSync(folder, { recursive: true });
});

test('no secret of this run is in any log', () => {
  const files = fs.existsSync(logs) ? fs.readdirSync(logs) : [];
  const kinds = planted();
  if (process.env.E2E_WHOLE) {
    for (const kind of KINDS) assert.ok(kinds.has(kind), `no suite used a ${kind} that can be recognised`);
    assert.ok(files.length > 50, `only ${files.length} logs`);
  }
  const services = files.filter((file) => /^(dev|gateway|dispatcher|ingest)-/.test(file));
  const traced = services.filter((file) => fs.readFileSync(path.join(logs, file), 'utf8').includes('TRACE'));
  assert.ok(services.length === 0 || traced.length > 0, 'nothing was logged at trace');
  const found = fs.existsSync(logs) ? leaks(logs, kinds) : [];
  const told = new Set(found.map(({ file, line, kind }) => `${path.join(logs, file)}:${line}: ${kind}`));
  assert.equal(found.length, 0, `secrets in logs:\n${[...told].slice(0, 50).join('\n')}`);
});
