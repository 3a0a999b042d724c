// Plays a scenario once, and gives the auditor's verdict.
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { GENEROUS, STRICT } from './audit/index.js';
import { Stage } from './stage.js';

export const artifacts = path.resolve(import.meta.dirname, '../.artifacts/chaos');

/** The day that a verdict and a scorecard name. */
export const today = () => new Date().toISOString().slice(0, 10);

/** Where the verdict on the last run of this name is. */
export const verdictFile = (name) => path.join(artifacts, `${name}.verdict.json`);

/** Events that are written at once. */
const CHUNK = 2_000;

/** Writes a log, one event in a line, a few at a time: other runs go on in this process meanwhile. */
async function write(file, events) {
  await fs.mkdir(path.dirname(file), { recursive: true });
  const handle = await fs.open(file, 'w');
  try {
    for (let from = 0; from < events.length; from += CHUNK) await handle.write(events.slice(from, from + CHUNK).map((event) => `${JSON.stringify(event)}\n`).join(''));
  } finally {
    await handle.close();
  }
}

/** MiB that the auditor may use: a log of half an hour has millions of events. */
const AUDITOR_MIB = 8_192;

/** @returns {Promise<ReturnType<import('./audit/index.js').audit>>} what the auditor says of a log */
export async function audited(file, how) {
  const worker = new Worker(new URL('./audit/worker.js', import.meta.url), { workerData: { file, how }, resourceLimits: { maxOldGenerationSizeMb: AUDITOR_MIB } });
  // An error of the worker rejects.
  const [verdict] = await once(worker, 'message');
  return verdict;
}

/** What a run is called, in the scorecard and as a file. */
export const nameOf = (scenario, { wait, away }) => [scenario.name, wait !== undefined && `wait-${wait}`, away && 'away'].filter(Boolean).join('-');

/**
 * @param {import('./scenarios/index.js').Scenario} scenario
 * @param {{ seed: number, long?: boolean, again?: boolean, wait?: number | 'all', away?: boolean }} how `again`: the last run did not hold
 */
export async function play(scenario, { seed, long = false, again = false, wait, away }) {
  const began = Date.now();
  const stage = new Stage();
  const further = [];
  try {
    await stage.set({ ...scenario, ...scenario.setup?.({ long }) }, { seed, long, wait, away });
    /** What a scenario itself finds wrong, beside what the auditor does. */
    stage.expect = (so, text) => { if (!so) further.push({ kind: 'expected', text }); };
    await scenario.run(stage);
    await stage.finish();
  } catch (error) {
    further.push({ kind: 'broke off', text: error.message });
  } finally {
    await stage.end();
  }
  const name = nameOf(scenario, { wait, away });
  const file = path.join(artifacts, `${name}.log.jsonl`);
  await write(file, stage.log.events);
  const verdict = await audited(file, { limits: { ...(long ? STRICT : GENEROUS), ...scenario.limits }, mayLose: stage.mayLose });
  verdict.violations.push(...further);
  const played = { date: today(), scenario: scenario.name, name, shape: scenario.shape, seed, long, again, wait: stage.wait, away: away ?? false, seconds: Math.round((Date.now() - began) / 1000), ...verdict };
  await fs.writeFile(verdictFile(name), JSON.stringify(played));
  return played;
}
