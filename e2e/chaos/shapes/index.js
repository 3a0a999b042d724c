// Redis in each of its shapes.
import { Alone } from './alone.js';
import { Cluster } from './cluster.js';
import { Sentinels } from './sentinel.js';

/** @type {Record<string, (options?: object) => Promise<Alone | Sentinels | Cluster>>} */
export const shapes = {
  alone: (options) => Alone.start(options),
  sentinel: (options) => Sentinels.start(options),
  cluster: (options) => Cluster.start(options),
};
