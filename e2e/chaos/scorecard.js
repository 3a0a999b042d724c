// How it went: a table for a terminal, JSON for programs, and a page.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { SERVER } from '../lib/redis.js';
import { complaints } from './audit/index.js';
import { artifacts, today, verdictFile } from './play.js';

const COLUMNS = [
  ['scenario', ({ scenario }) => scenario],
  ['wait', ({ wait, shape }) => (shape === 'alone' && wait === 0 ? '' : wait)],
  ['away', ({ away }) => (away ? 'a third' : '')],
  ['seed', ({ seed }) => seed],
  ['accepted', ({ counts }) => counts.accepted],
  ['refused', ({ counts }) => counts.refused],
  ['unknown', ({ counts }) => counts.unknown],
  ['deliveries', ({ counts }) => counts.deliveries],
  ['lost', ({ counts }) => counts.lost],
  ['doubled', ({ counts }) => counts.doubled],
  ['disordered', ({ counts }) => counts.disordered],
  ['false `true`', ({ counts }) => counts.false_true],
  ['false `true`, corrected', ({ counts }) => counts.false_true_corrected],
  ['needless `false`', ({ counts }) => counts.needless],
  ['late', ({ counts }) => counts.late],
  ['latest, s', ({ counts }) => (counts.latest_ms / 1000).toFixed(1)],
  ['joins unanswered', ({ counts }) => counts.joins_unanswered],
  ['readiness lies', ({ counts }) => counts.readiness_lies],
  ['declared dead', ({ counts }) => counts.declared_dead],
  ['lost by Redis', ({ explained }) => explained.redis_lost],
  ['doubled by Redis', ({ explained }) => explained.redis_doubled],
  ['', ({ violations }) => (violations.length === 0 ? 'held' : '**broken**')],
];

/** Where it was run, and on what. */
export function machine() {
  const version = (command, ...args) => execFileSync(command, args, { encoding: 'utf8' }).trim();
  return {
    date: today(),
    cores: os.cpus().length,
    processor: os.cpus()[0].model,
    memory_gib: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release().split(".").slice(0, 2).join(".")}`,
    redis: /v=(\S+)/.exec(version(SERVER, '--version'))[1],
    node: process.version,
    carillon: version(process.env.E2E_BINARY, '--version'),
  };
}

/** The verdicts as a Markdown table. */
export function table(verdicts) {
  const rows = verdicts.map((verdict) => COLUMNS.map(([, value]) => `${value(verdict)}`));
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(COLUMNS.map(([title]) => title)), line(COLUMNS.map(() => '---')), ...rows.map(line)].join('\n');
}

/** What is said of a verdict in a terminal. */
export function said(verdict) {
  const { counts, explained, violations } = verdict;
  const found = Object.entries({ ...counts, ...explained }).filter(([, count]) => count > 0).map(([name, count]) => `${name} ${count}`).join(', ');
  return [`${violations.length === 0 ? 'held  ' : 'BROKEN'}  ${verdict.name}  (${verdict.seconds} s, seed ${verdict.seed})  ${found}`, ...complaints(verdict).flatMap((text) => text.split('\n').map((line) => `        ${line}`))].join('\n');
}

/** The verdict on the last run of this name, if there is one. */
export const last = (name) => (fs.existsSync(verdictFile(name)) ? JSON.parse(fs.readFileSync(verdictFile(name), 'utf8')) : undefined);

/** Writes the scorecard as JSON and as a page; gives the page's text below its heading. */
export function write(verdicts) {
  const where = machine();
  fs.mkdirSync(artifacts, { recursive: true });
  fs.writeFileSync(path.join(artifacts, 'scorecard.json'), `${JSON.stringify({ machine: where, verdicts }, undefined, 2)}\n`);
  const broken = verdicts.filter(({ violations }) => violations.length > 0);
  const again = verdicts.filter((verdict) => verdict.again).map(({ name }) => name);
  const text = [
    `Run on ${where.date} in the ${verdicts.some(({ long }) => long) ? 'long' : 'short'} form: ${where.cores} cores (${where.processor}), ${where.memory_gib} GiB, ${where.system}, Redis ${where.redis}, Node ${where.node}, ${where.carillon}, development build. ${verdicts.length - broken.length} of ${verdicts.length} runs held.`,
    ...(again.length > 0 ? ['', `Played again, as they had not held before: ${again.join(', ')}. What had held was not played again, also where the binary is a newer one.`] : []),
    '',
    table(verdicts),
    ...broken.flatMap((verdict) => ['', `**${verdict.name}**`, '', ...complaints(verdict, 2).map((complaint) => `- ${complaint.split('\n').map((line) => line.trim().replaceAll('|', '/')).join('; ')}`)]),
    '',
  ].join('\n');
  fs.writeFileSync(path.join(artifacts, 'scorecard.md'), `# Scorecard\n\n${text}`);
  return text;
}
