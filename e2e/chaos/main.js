// `make chaos`: plays scenarios, prints the scorecard, and writes it under .artifacts/chaos.
import { randomInt } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { nameOf, play, today } from './play.js';
import { scenarios } from './scenarios/index.js';
import { last, said, write } from './scorecard.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seed: { type: 'string' }, long: { type: 'boolean', default: false }, list: { type: 'boolean', default: false }, page: { type: 'boolean', default: false }, again: { type: 'boolean', default: false }, jobs: { type: 'string', default: '1' } },
});
const form = values.long ? 'long' : 'short';
if (values.list) {
  for (const { name, about, runs } of scenarios) console.log(`${name.padEnd(32)} ${runs.short.length === 0 ? '(long form only) ' : ''}${about}`);
  process.exit(0);
}
const named = scenarios.filter(({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)));
if (named.length === 0) {
  console.error(`chaos: no scenario is named ${positionals.join(' or ')}; --list shows all`);
  process.exit(64);
}
/** Why a scenario can't be played. */
const obstacle = ({ runs, lacks }) => (runs[form].length === 0 ? `has no ${form} form` : lacks?.() && `needs ${lacks()}`);
const wanted = named.filter((scenario) => !obstacle(scenario));
for (const scenario of named) if (obstacle(scenario)) console.error(`chaos: ${scenario.name} is not played: it ${obstacle(scenario)}`);
// Whoever asked for it would take silence for success.
if (positionals.length > 0 && wanted.length < named.length) process.exit(64);
const seed = values.seed ? Number(values.seed) : randomInt(2 ** 31);
console.log(`chaos: the ${form} form of ${wanted.length} scenarios with seed ${seed}`);
const runs = wanted.flatMap((scenario) => scenario.runs[form].map((run) => ({ scenario, run })));
/** How a run went the last time, if it held, today: the page names one day. */
const held = ({ scenario, run }) => {
  const verdict = last(nameOf(scenario, run));
  return verdict?.date === today() && verdict.long === values.long && verdict.violations.length === 0 ? verdict : undefined;
};
// What held is kept, if that is asked for; the others are played again.
const verdicts = runs.map((each) => (values.again ? held(each) : undefined));
/** What takes longest is begun first, so that nothing waits for it alone in the end. */
const waiting = runs.map((run, place) => ({ ...run, place })).filter(({ place }) => !verdicts[place]).sort((one, other) => (other.scenario.minutes ?? 0) - (one.scenario.minutes ?? 0));
/** Takes one run after the other, as long as there are any. */
const work = async () => {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const { scenario, run, place } = next;
    const broke = values.again && last(nameOf(scenario, run))?.violations.length > 0;
    verdicts[place] = await play(scenario, { seed, long: values.long, again: broke, ...run });
    console.log(said(verdicts[place]));
  }
};
await Promise.all(Array.from({ length: Number(values.jobs) }, work));
const text = write(verdicts);
const broken = verdicts.filter(({ violations }) => violations.length > 0).length;
console.log(`\n${text}`);
if (values.page) {
  const page = path.resolve(import.meta.dirname, '../../docs/guarantees.md');
  const frame = fs.readFileSync(page, 'utf8');
  const mark = '<!-- scorecard -->\n';
  fs.writeFileSync(page, `${frame.slice(0, frame.indexOf(mark) + mark.length)}\n${text}`);
}
console.log(`chaos: ${verdicts.length - broken} of ${verdicts.length} runs held; logs of events and the scorecard are in e2e/.artifacts/chaos`);
process.exit(broken > 0 ? 1 : 0);
