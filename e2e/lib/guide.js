// What the documentation shows is run from there, not from a copy.
import fs from 'node:fs';
import path from 'node:path';

/** A page of the documentation. */
export const page = (name) => fs.readFileSync(path.resolve(import.meta.dirname, '../../docs', name), 'utf8');

/**
 * The fenced blocks of a language below a heading, up to the next one.
 * @param {string} text a page
 * @param {string} heading its line, like `## Connecting`
 * @param {string} language
 */
export function blocks(text, heading, language) {
  const start = text.indexOf(`\n${heading}\n`);
  if (start < 0) throw new Error(`the page has no ${heading}`);
  const end = text.indexOf('\n## ', start + 1);
  const section = text.slice(start, end < 0 ? undefined : end);
  return [...section.matchAll(/^```(\S+)\n(.*?)^```$/gms)].filter(([, name]) => name === language).map(([, , code]) => code);
}
