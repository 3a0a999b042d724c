// No secret in any log: all suites before this one ran everything at `trace`, with secrets that can be recognised.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { becameReady, canary, disguises, leaks, levels, logs, marker, planted, startedAt } from '../lib/canaries.js';

const KINDS = [
  'token', 'token-key', 'cookie', 'cookie-key', 'engine-id', 'forwarding-secret', 'payload', 'producer-key', 'redis-password',
  // Each door has its own way with what comes in: as JSON, as bytes, and by whose key.
  ...['grpc', 'ndjson', 'cloudevents'].flatMap((door) => ['payload', 'bytes', 'key'].map((what) => `${door}-${what}`)), 'openapi-key', 'idempotency-key',
];

test('a secret would be found, however it is written', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-logs-'));
  const secrets = new Map([['cookie', new Set(['s%3Aabcdefghijklmnop.qrst'])]]);
  const lines = [
    `INFO harmless ${marker.slice(0, 10)}`, `TRACE key=${canary('producer-key', '7')}`, 'DEBUG cookie: "sid=s%3Aabcdefghijklmnop.qrst"',
    ...disguises(marker).slice(1).map((text) => `TRACE ${text}`),
    ...[0, 1, 2].map((before) => `TRACE ${Buffer.from(`${'x'.repeat(before)}${marker}y`).toString('base64')}`),
    ...disguises('s%3Aabcdefghijklmnop.qrst').slice(1).map((text) => `TRACE ${text}`),
  ];
  fs.writeFileSync(path.join(folder, 'a.log'), lines.join('\n'));
  const found = leaks(folder, secrets);
  assert.deepEqual([...new Set(found.map(({ line }) => line))], lines.map((_, n) => n + 1).slice(1));
  assert.deepEqual(found.slice(0, 2), [{ file: './a.log', line: 2, kind: 'producer-key' }, { file: './a.log', line: 3, kind: 'cookie' }]);
  fs.rmSync(folder, { recursive: true });
});

test('a service that logged less than it can would be found', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-logs-'));
  const traced = '2026-01-02T03:04:05Z TRACE carillon: a line\n';
  const service = (name, level, text, ready) => {
    const log = path.join(folder, name);
    fs.writeFileSync(log, text);
    if (level) startedAt(log, level);
    if (ready) becameReady(log);
  };
  service('gateway-1.log', 'trace', traced, true);
  service('ingest-1.log', 'trace', '{"level":"TRACE","message":"a line"}\n', true);
  service('dev-1.log', 'trace', 'it died of a wrong setting\n', false);
  service('redis-1.log', undefined, 'not ours\n', false);
  service('gateway-2.log', 'info,carillon_gateway=trace', traced, true);
  service('operator-2.log', 'trace', 'INFO it speaks of TRACE\n', true);
  service('dispatcher-2.log', undefined, traced, false);
  const { services, untraced } = levels(folder);
  assert.equal(services.length, 6);
  assert.deepEqual(untraced.map((line) => line.split(':')[0]).sort(), ['dispatcher-2.log', 'gateway-2.log', 'operator-2.log']);
  fs.rmSync(folder, { recursive: true });
});

test('no secret of this run is in any log', () => {
  const files = fs.existsSync(logs) ? fs.readdirSync(logs) : [];
  const kinds = planted();
  if (process.env.E2E_WHOLE) {
    for (const kind of KINDS) assert.ok(kinds.has(kind), `no suite used a ${kind} that can be recognised`);
  }
  const { services, untraced } = files.length > 0 ? levels(logs) : { services: [], untraced: [] };
  assert.deepEqual(untraced, [], 'every service logged at trace');
  if (process.env.E2E_WHOLE) assert.ok(services.length > 50, `only ${services.length} logs of services`);
  const found = files.length > 0 ? leaks(logs, kinds) : [];
  const told = new Set(found.map(({ file, line, kind }) => `${path.join(logs, file)}:${line}: ${kind}`));
  assert.equal(found.length, 0, `secrets in logs:\n${[...told].slice(0, 50).join('\n')}`);
});
