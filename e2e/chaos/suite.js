// The short forms as tests: some at a time, as most of a scenario's time is waiting for Redis.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { seeded } from '../lib/random.js';
import { complaints } from './audit/index.js';
import { play } from './play.js';

/** @param {string} title @param {import('./scenarios/index.js').Scenario[]} scenarios @param {number} [concurrency] how many at a time */
export function suite(title, scenarios, concurrency = 3) {
  describe(title, { concurrency }, () => {
    for (const scenario of scenarios) {
      for (const run of scenario.runs.short) {
        const name = [scenario.name, run.wait !== undefined && `waiting for ${run.wait}`, run.away && 'a third away'].filter(Boolean).join(', ');
        test(name, (t) => seeded(async (random) => {
          const verdict = await play(scenario, { seed: random.seed, ...run });
          t.diagnostic(JSON.stringify({ seconds: verdict.seconds, ...verdict.counts, ...verdict.explained }));
          assert.deepEqual(complaints(verdict), [], `${scenario.name}: ${scenario.about}`);
        }));
      }
    }
  });
}
