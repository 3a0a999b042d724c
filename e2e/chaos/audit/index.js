// The auditor: a log of events in, a verdict out. It asks nobody, and knows nothing but the log.
import { claims } from './claims.js';
import { delivery } from './delivery.js';
import { joins } from './joins.js';
import { lateness } from './lateness.js';
import { Ledger } from './ledger.js';
import { outcomes } from './outcomes.js';
import { readiness } from './readiness.js';
import { Timeline } from './timeline.js';

/**
 * Milliseconds, but for `needless`: the share of claims that may be `false` without need. `accept`, `join`, `late`: how
 * long after it could be an answer or a message may come; `moved`: when, after a fault, services know the server that
 * took over, as they look each second, so that nothing is lost any more; `settled`:
 * when it is known what was lost, so that nobody is told `true` over it any more; `readiness`: how long it may be wrong; `blink`: how long a
 * service may be not ready in calm times; `start`: how long a start may take. `toldLate`: what nobody alive knows to be
 * lost may be told where the client has got more already.
 * @typedef {{ accept: number, join: number, late: number, moved: number, settled: number, readiness: number, blink: number, start: number, needless: number, toldLate?: boolean }} Limits
 */

/** What the long form asks for. @type {Limits} */
export const STRICT = { accept: 5_000, join: 5_000, late: 2_000, moved: 1_500, settled: 1_000, readiness: 5_000, blink: 1_000, start: 15_000, needless: 0.01 };
/** What the short form asks for, on machines that have other things to do. @type {Limits} */
export const GENEROUS = { accept: 10_000, join: 10_000, late: 6_000, moved: 1_500, settled: 1_000, readiness: 8_000, blink: 3_000, start: 30_000, needless: 0.01 };

/**
 * @param {object[]} log as log.js describes it
 * @param {{ limits?: Limits, mayLose?: boolean }} [how] `mayLose`: whether the docs say that Redis may lose what was
 *   accepted, when something happens that it may lose by: not with `wait_replicas` at the number of all replicas
 */
export function audit(log, { limits = STRICT, mayLose = false } = {}) {
  // A message's outcome is noted where it was sent; all else is in order.
  const events = [...log].sort((a, b) => a.at - b.at);
  const timeline = new Timeline(events, limits);
  const ledger = new Ledger(events);
  const parts = [
    outcomes(ledger, timeline, limits),
    delivery(ledger, timeline, { mayLose, toldLate: limits.toldLate }),
    claims(ledger, limits),
    lateness(ledger, timeline, limits),
    joins(events, timeline, limits),
    readiness(events, timeline, limits),
  ];
  const violations = parts.flatMap((part) => part.violations);
  for (const { kind, count } of events) {
    if (kind === 'queued' && count > 0) violations.push({ kind: 'not drained', text: `${count} messages wait in the queues at the end` });
  }
  return {
    counts: Object.assign({}, ...parts.map((part) => part.counts)),
    explained: Object.assign({}, ...parts.map((part) => part.explained ?? {})),
    violations,
  };
}

/** A few lines that say what is wrong: each kind with its number and its first cases. */
export function complaints({ violations }, cases = 3) {
  const kinds = new Map(violations.map(({ kind }) => [kind, []]));
  for (const violation of violations) kinds.get(violation.kind).push(violation);
  return [...kinds].map(([kind, found]) => {
    const first = found.slice(0, cases).map(({ client, room, text }) => `  ${[client, room].filter(Boolean).join(' in ')}${client || room ? ': ' : ''}${text}`);
    return [`${kind}: ${found.length}`, ...first].join('\n');
  });
}
