// All scenarios.
import sentinel from './sentinel.js';

/**
 * @typedef {{
 *   name: string,
 *   shape: 'alone' | 'sentinel' | 'cluster',
 *   about: string,
 *   runs: { short: { wait?: number | 'all', away?: boolean }[], long: { wait?: number | 'all', away?: boolean }[] },
 *   setup?: (how: { long: boolean }) => object,
 *   limits?: Partial<import('../audit/index.js').Limits>,
 *   run: (stage: import('../stage.js').Stage) => Promise<void>,
 * }} Scenario `runs`: with which settings each form is played; `setup`: what differs from the usual stage
 */

/** @type {Scenario[]} */
export const scenarios = [...sentinel];
