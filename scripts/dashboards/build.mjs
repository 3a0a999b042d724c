#!/usr/bin/env node
// Writes helm/carillon/dashboards/*.json. With `--check` it only says whether they are what it would write.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import delivery from './delivery.mjs';
import dispatcher from './dispatcher.mjs';
import gateways from './gateways.mjs';
import ingest from './ingest.mjs';
import operator from './operator.mjs';
import overview from './overview.mjs';
import redis from './redis.mjs';

const folder = fileURLToPath(new URL('../../helm/carillon/dashboards/', import.meta.url));

/** Each file's name and text. */
export const files = new Map([overview, delivery, gateways, dispatcher, ingest, redis, operator]
  .map((dashboard) => [`${dashboard.uid.replace('carillon-', '')}.json`, `${JSON.stringify(dashboard, null, 2)}\n`]));

/** What is wrong with the files that are there. */
export function complaints() {
  const there = fs.existsSync(folder) ? fs.readdirSync(folder) : [];
  return [
    ...there.filter((name) => !files.has(name)).map((name) => `${name} is made by nobody`),
    ...[...files].filter(([name, text]) => !there.includes(name) || fs.readFileSync(path.join(folder, name), 'utf8') !== text).map(([name]) => `${name} is not what scripts/dashboards/build.mjs makes`),
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--check')) {
    const wrong = complaints();
    wrong.forEach((line) => console.error(line));
    process.exitCode = wrong.length > 0 ? 1 : 0;
  } else {
    fs.mkdirSync(folder, { recursive: true });
    for (const [name, text] of files) fs.writeFileSync(path.join(folder, name), text);
  }
}
