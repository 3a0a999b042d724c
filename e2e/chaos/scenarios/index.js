// All scenarios.
import clock from './clock.js';
import cluster from './cluster.js';
import endurance from './endurance.js';
import load from './load.js';
import redis from './redis.js';
import sentinel from './sentinel.js';
import services from './services.js';

/**
 * @typedef {{
 *   name: string,
 *   shape: 'alone' | 'sentinel' | 'cluster',
 *   about: string,
 *   runs: { short: { wait?: number | 'all', away?: boolean }[], long: { wait?: number | 'all', away?: boolean }[] },
 *   setup?: (how: { long: boolean }) => object,
 *   minutes?: number,
 *   lacks?: () => string | undefined,
 *   limits?: Partial<import('../audit/index.js').Limits>,
 *   run: (stage: import('../stage.js').Stage) => Promise<void>,
 * }} Scenario `runs`: with which settings each form is played; `setup`: what differs from the usual stage; `minutes`:
 *   how long its long form takes, if that is long; `lacks`: what it needs and has not got
 */

/** @type {Scenario[]} */
export const scenarios = [...services, ...redis, ...sentinel, ...cluster, ...load, ...clock, ...endurance];
