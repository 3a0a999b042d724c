// Secrets that can be recognised wherever they turn up, and the search for them; `suites/99-log-hygiene.test.js` looks
// through every log of a run.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const artifacts = path.resolve(import.meta.dirname, '../.artifacts');
/** What Carillon's processes wrote. */
export const logs = path.join(artifacts, 'logs');
const remembered = path.join(artifacts, 'canaries');

/** In every secret of this run, so that one word finds them all. `e2e/run` says it; letters and digits only. */
export const marker = process.env.E2E_CANARY ?? `canary${randomBytes(8).toString('hex')}`;

/**
 * A secret of a kind, with the marker in it.
 * @param {string} kind what it is: letters and dashes
 * @param {string} [more] what tells it from others of its kind
 */
export function canary(kind, more = '') {
  remember(kind);
  return `${marker}-${kind}${more && `.${more}`}`;
}

const known = new Set();
/**
 * Remembers a secret that has no place for the marker, such as a signature; without one, that this kind was used.
 * @param {string} kind
 * @param {string} [text]
 */
export function remember(kind, text = '') {
  const line = `${kind}\t${text}`;
  // What is short would be found by chance.
  if ((text && text.length < 16) || known.has(line)) return;
  known.add(line);
  fs.mkdirSync(remembered, { recursive: true });
  fs.appendFileSync(path.join(remembered, `${process.pid}.tsv`), `${line}\n`);
}

/**
 * What was remembered by all suites of this run, or by this process alone: kind → texts.
 * @param {{ alone?: boolean }} [whose]
 */
export function planted({ alone = false } = {}) {
  const kinds = new Map();
  const files = fs.existsSync(remembered) ? fs.readdirSync(remembered) : [];
  for (const file of files.filter((name) => !alone || name === `${process.pid}.tsv`)) {
    for (const line of fs.readFileSync(path.join(remembered, file), 'utf8').split('\n').filter(Boolean)) {
      const [kind, text] = line.split('\t');
      if (!kinds.has(kind)) kinds.set(kind, new Set());
      if (text) kinds.get(kind).add(text);
    }
  }
  return kinds;
}

/** Notes beside the log of a service at which level it was started; `suites/99-log-hygiene.test.js` wants `trace`. */
export function startedAt(log, level) {
  fs.writeFileSync(`${log}.level`, `${level}\n`);
}

/** Notes beside the log of a service that it lived long enough to have logged something. */
export function becameReady(log) {
  fs.appendFileSync(`${log}.level`, 'ready\n');
}

/**
 * The logs of services in a folder, and those of them that were not written at `trace`, with why one thinks so.
 * @param {string} folder
 * @param {(file: string) => boolean} [concerns] whether to look at a file at all
 */
export function levels(folder, concerns = () => true) {
  const services = fs.readdirSync(folder).filter((file) => /^(dev|gateway|dispatcher|ingest|operator)-.*\.log$/.test(file) && concerns(file));
  const untraced = [];
  for (const file of services) {
    const note = path.join(folder, `${file}.level`);
    const [level, ready] = fs.existsSync(note) ? fs.readFileSync(note, 'utf8').split('\n') : ['unknown'];
    const traced = /^\S+ TRACE |"level":"TRACE"/m.test(fs.readFileSync(path.join(folder, file), 'utf8'));
    if (level !== 'trace') untraced.push(`${file}: its level was ${level}`);
    else if (ready && !traced) untraced.push(`${file}: it was ready, and no line of it is a trace`);
  }
  return { services, untraced };
}

/** A text as logs may show it: plain, as Base64 wherever it begins, in hexadecimal, and as a list of bytes. */
export function disguises(text) {
  const bytes = Buffer.from(text);
  const base64 = [0, 1, 2].map((before) => {
    const encoded = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64url');
    // Without the characters that the neighbours of the text have a part in.
    return encoded.slice(Math.ceil((before * 8) / 6), encoded.length - 2);
  });
  return [text, ...base64, bytes.toString('hex'), [...bytes].join(', '), [...bytes].join(',')];
}

/**
 * Every secret in the files of a folder.
 * @param {string} folder
 * @param {Map<string, Set<string>>} kinds secrets without the marker
 * @returns {{ file: string, line: number, kind: string }[]}
 */
export function leaks(folder, kinds) {
  const kindOf = new Map(disguises(marker).map((text, n) => [text, n === 0 ? undefined : 'something with the marker, in disguise']));
  for (const [kind, texts] of kinds) {
    for (const text of texts) disguises(text).forEach((form, n) => kindOf.set(form, n === 0 ? kind : `${kind}, in disguise`));
  }
  const patterns = path.join(artifacts, `patterns-${process.pid}`);
  fs.writeFileSync(patterns, `${[...kindOf.keys()].join('\n')}\n`);
  let found = '';
  try {
    found = execFileSync('grep', ['-r', '-a', '-o', '-n', '-F', '-f', patterns, '.'], { cwd: folder, env: { ...process.env, LC_ALL: 'C' }, encoding: 'latin1', maxBuffer: 256 << 20 });
  } catch (error) {
    // 1: nothing was found.
    if (error.status !== 1) throw error;
  } finally {
    fs.rmSync(patterns);
  }
  return found.split('\n').filter(Boolean).map((hit) => {
    const [, file, line, text] = /^(.*?):(\d+):(.*)$/.exec(hit);
    return { file, line: Number(line), kind: kindOf.get(text) ?? kindAt(path.join(folder, file), Number(line)) };
  });
}

/** The kind that stands behind the marker in a line. */
function kindAt(file, line) {
  const text = fs.readFileSync(file, 'latin1').split('\n')[line - 1];
  return new RegExp(`${marker}-([a-z-]+)`).exec(text)?.[1] ?? 'the marker alone';
}
