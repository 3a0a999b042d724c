// `make chaos`: plays scenarios, prints the scorecard, and writes it under .artifacts/chaos.
import { randomInt } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { nameOf, play, today } from './play.js';
import { scenarios } from './scenarios/index.js';
import { last, said, write } from './scorecard.js';

const USAGE = 'usage: chaos/run [--long] [--seed N] [--page] [--again] [--jobs N] [NAME…], or chaos/run --list';
const refuse = (problem) => {
  console.error(`chaos: ${problem}\n${USAGE}`);
  process.exit(64);
};
const asked = () => {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { help: { type: 'boolean', default: false }, seed: { type: 'string' }, long: { type: 'boolean', default: false }, list: { type: 'boolean', default: false }, page: { type: 'boolean', default: false }, again: { type: 'boolean', default: false }, jobs: { type: 'string', default: '1' } },
    });
  } catch (problem) {
    return refuse(problem.message);
  }
};
const { values, positionals } = asked();
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
/** Reads a whole number, so that a typing error is not taken for another seed. */
const whole = (name, least) => (/^\d+$/.test(values[name]) && Number(values[name]) >= least ? Number(values[name]) : refuse(`--${name} ${values[name]} is not a whole number from ${least} on`));
const jobs = whole('jobs', 1);
const seed = values.seed === undefined ? randomInt(2 ** 31) : whole('seed', 0);
const form = values.long ? 'long' : 'short';
if (values.list) {
  for (const { name, about, runs } of scenarios) console.log(`${name.padEnd(32)} ${runs.short.length === 0 ? '(long form only) ' : ''}${about}`);
  process.exit(0);
}
const named = scenarios.filter(({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)));
if (named.length === 0) refuse(`no scenario is named ${positionals.join(' or ')}; --list shows all`);
/** Why a scenario can't be played. */
const obstacle = ({ runs, lacks }) => (runs[form].length === 0 ? `has no ${form} form` : lacks?.() && `needs ${lacks()}`);
const wanted = named.filter((scenario) => !obstacle(scenario));
for (const scenario of named) if (obstacle(scenario)) console.error(`chaos: ${scenario.name} is not played: it ${obstacle(scenario)}`);
// Whoever asked for it would take silence for success.
if (positionals.length > 0 && wanted.length < named.length) process.exit(64);
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
await Promise.all(Array.from({ length: jobs }, work));
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
