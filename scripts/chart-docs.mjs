// The chart's schema and reference, from values.yaml (names, defaults, comments) and docs/settings.md (what may stand under
// `settings`). What a default can't tell, such as the words that may stand there, is said in chart-shapes.mjs.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { fixed, ownSettings, shapes } from './chart-shapes.mjs';

const root = path.resolve(import.meta.dirname, '..');
const chart = path.join(root, 'helm/carillon');
const YAML = createRequire(path.join(root, 'e2e/package.json'))('yaml');
const mistakes = [];

/** A comment's text, its lines put together; a blank line begins anew. */
const prose = (comment) => (comment ?? '').split(/\n\s*\n/).at(-1).split('\n').map((line) => line.trim()).join(' ').trim();

/** Every key of values.yaml in order: path, comment, default, and whether keys of its own are documented below it. */
function documented(node, above = []) {
  const found = [];
  node.items.forEach((pair, place) => {
    const at = [...above, pair.key.value];
    // The parser gives the comment of a map's first key to the map.
    const comment = prose(place === 0 && above.length > 0 ? pair.key.commentBefore ?? node.commentBefore : pair.key.commentBefore);
    const deeper = YAML.isMap(pair.value) && !pair.value.flow && pair.value.items.length > 0 && !shapes[at.join('.')];
    found.push({ at, comment, value: pair.value?.toJSON() ?? null, deeper });
    if (deeper) {
      const first = pair.value.items[0].key;
      first.commentBefore ??= pair.value.commentBefore;
      found.push(...documented(pair.value, at));
    }
  });
  return found;
}

/** The schema that follows from a default. */
function guessed(value) {
  switch (typeof value) {
    case 'boolean': return { type: 'boolean' };
    case 'number': return Number.isInteger(value) ? { type: 'integer', minimum: 0 } : { type: 'number' };
    case 'string': return { type: 'string' };
    default:
      if (Array.isArray(value)) return { type: 'array' };
      return { type: 'object' };
  }
}

function schemaOf(keys) {
  const schema = { type: 'object', additionalProperties: false, properties: {} };
  for (const { at, comment, value, deeper } of keys) {
    const name = at.join('.');
    if (!comment) mistakes.push(`values.yaml: ${name} has no comment`);
    if (value === null && !shapes[name]) mistakes.push(`chart-shapes.mjs: ${name} is null, so say what else it may be`);
    const parent = at.slice(0, -1).reduce((place, key) => place.properties[key], schema);
    parent.properties[at.at(-1)] = {
      description: comment,
      ...(deeper ? { type: 'object', additionalProperties: false, properties: {} } : shapes[name] ?? guessed(value)),
    };
  }
  return schema;
}

const duration = { type: 'string', pattern: '^([0-9]+ ?(ms|s|m|h|d) ?)+$' };
const size = { type: ['string', 'integer'], pattern: '^[0-9.]+ ?([kKMGT]i?)?B?$' };

/** What docs/settings.md says a setting expects, as a schema. */
function expected(text, key) {
  const range = /, from (\S+) to (\S+)$/.exec(text);
  const bounds = range ? { minimum: Number(range[1]), maximum: Number(range[2]) } : {};
  if (text.startsWith('a list, in which each is ')) return { type: 'array', items: expected(text.slice('a list, in which each is '.length), key) };
  if (text.startsWith('one of ')) return { type: 'string', enum: [...text.matchAll(/`([^`]+)`/g)].map(([, word]) => word) };
  if (text.startsWith('`true` or `false`')) return { type: 'boolean' };
  if (text.startsWith('a whole number')) return { type: 'integer', minimum: 0, ...bounds };
  if (text.startsWith('a number')) return { type: 'number', ...bounds };
  if (text.startsWith('a duration')) return duration;
  if (text.startsWith('a size in bytes')) return size;
  if (/^(text|a path|a URL|a level|a rate|an? )/.test(text)) return { type: 'string' };
  mistakes.push(`docs/settings.md: what ${key} expects is not understood: ${text}`);
  return {};
}

function settingsSchema() {
  const schema = { type: 'object', additionalProperties: false, properties: {} };
  const rows = fs.readFileSync(path.join(root, 'docs/settings.md'), 'utf8').matchAll(/^\| `([a-z0-9_.]+)` \| .*? \| (.*) Expects (.*?)\.( Hidden when shown\.)? \|$/gm);
  let count = 0;
  for (const [, key, description, expects, hidden] of rows) {
    count += 1;
    if (ownSettings(key) || (hidden && key !== 'identity.jwks.url')) continue;
    const parts = key.split('.');
    let place = schema;
    for (const part of parts.slice(0, -1)) place = place.properties[part] ??= { type: 'object', additionalProperties: false, properties: {} };
    place.properties[parts.at(-1)] = { description, ...expected(expects, key) };
  }
  if (count < 50) mistakes.push(`docs/settings.md: only ${count} settings were understood`);
  return schema;
}

/** A default as a table's cell shows it. */
const cell = (value) => (value === null ? 'null' : `\`${(typeof value === 'object' ? JSON.stringify(value) : value === '' ? '""' : String(value)).replaceAll('|', '\\|')}\``);

function reference(keys) {
  const lines = [];
  const top = keys.filter(({ at }) => at.length === 1);
  const table = (rows) => ['', '| value | default | what |', '|---|---|---|',
    ...rows.map(({ at, value, comment }) => `| \`${at.join('.')}\` | ${cell(value)} | ${comment.replaceAll('|', '\\|')} |`)];
  lines.push('### general', ...table(top.filter(({ deeper }) => !deeper)), '');
  for (const section of top.filter(({ deeper }) => deeper)) {
    const below = keys.filter(({ at }) => at.length > 1 && at[0] === section.at[0]);
    // A group's comment goes before the comments of its keys, once.
    const groups = Object.fromEntries(below.filter(({ deeper }) => deeper).map(({ at, comment }) => [at.join('.'), comment]));
    const rows = below.filter(({ deeper }) => !deeper).map((row) => {
      const group = row.at.slice(0, -1).join('.');
      const comment = groups[group] ? `${groups[group]} ${row.comment}` : row.comment;
      delete groups[group];
      return { ...row, comment };
    });
    lines.push(`### ${section.at[0]}`, '', section.comment, ...table(rows), '');
  }
  return lines.join('\n');
}

const document = YAML.parseDocument(fs.readFileSync(path.join(chart, 'values.yaml'), 'utf8'));
// The head of the file is not about its first key: prose() takes what stands behind the blank line.
const keys = documented(document.contents);
const schema = { $schema: 'http://json-schema.org/draft-07/schema#', title: 'Values of the chart carillon', ...schemaOf(keys) };
schema.properties.settings = { description: schema.properties.settings.description, ...settingsSchema() };
for (const component of ['gateway', 'dispatcher', 'ingest', 'operator']) {
  // What stands under `pods` may stand there, too.
  schema.properties[component].properties = { ...schema.properties[component].properties, ...schema.properties.pods.properties };
}
Object.assign(schema.properties, fixed);

const marker = '<!-- Written by scripts/chart-docs from values.yaml. -->';
const readme = fs.readFileSync(path.join(chart, 'README.md'), 'utf8');
const [head] = readme.split(marker);
const written = {
  'values.schema.json': `${JSON.stringify(schema, null, 1)}\n`,
  'README.md': `${head.trimEnd()}\n\n${marker}\n\n${reference(keys)}`,
};
for (const [name, text] of Object.entries(written)) {
  const file = path.join(chart, name);
  const before = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  if (before === text) continue;
  if (process.argv.includes('--check')) mistakes.push(`helm/carillon/${name} is not up to date; run scripts/chart-docs`);
  else fs.writeFileSync(file, text);
}
for (const mistake of mistakes) console.error(`chart-docs: ${mistake}`);
process.exit(mistakes.length ? 1 : 0);
