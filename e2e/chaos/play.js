// Plays a scenario once, and gives the auditor's verdict.
import fs from 'node:fs';
import path from 'node:path';
import { GENEROUS, STRICT, audit } from './audit/index.js';
import { Stage } from './stage.js';

export const artifacts = path.resolve(import.meta.dirname, '../.artifacts/chaos');

/**
 * @param {import('./scenarios/index.js').Scenario} scenario
 * @param {{ seed: number, long?: boolean, wait?: number | 'all', away?: boolean }} how
 */
export async function play(scenario, { seed, long = false, wait, away }) {
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
  const verdict = audit(stage.log.events, { limits: { ...(long ? STRICT : GENEROUS), ...scenario.limits }, mayLose: stage.mayLose });
  verdict.violations.push(...further);
  const name = [scenario.name, wait !== undefined && `wait-${wait}`, away && 'away'].filter(Boolean).join('-');
  fs.mkdirSync(artifacts, { recursive: true });
  fs.writeFileSync(path.join(artifacts, `${name}.log.jsonl`), stage.log.events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  return { scenario: scenario.name, name, shape: scenario.shape, seed, long, wait: stage.wait, away: away ?? false, seconds: Math.round((Date.now() - began) / 1000), ...verdict };
}
