// Expressions taken apart by Prometheus' own grammar, the one its page edits them with.
import { parser } from '@prometheus-io/lezer-promql';

/** The series that an expression reads: its selectors with their matchers, without ranges and offsets. */
export function selectors(expression) {
  const found = new Set();
  parser.parse(expression).iterate({
    enter({ type, name, from, to }) {
      if (type.isError) throw new Error(`not understood from ${from} on: ${expression}`);
      if (name === 'VectorSelector') found.add(expression.slice(from, to));
    },
  });
  return [...found];
}

/** Series that are not there as long as all is well, and why. */
export const QUIET = new Map([
  ['carillon_dispatcher_partition_without_progress', 'a partition has this series while it is stuck, and at no other time'],
  ['ALERTS', 'no alert fires'],
]);

/**
 * All selectors of expressions, apart from each other, those of `QUIET` by themselves.
 * @param {Iterable<[string, string]>} expressions and where each stands
 * @returns {{ usual: Map<string, string>, quiet: Map<string, string> }} selectors, and where each stands
 */
export function read(expressions) {
  const usual = new Map();
  const quiet = new Map();
  for (const [expression, where] of expressions) {
    for (const selector of selectors(expression)) (QUIET.has(/^[\w:]*/.exec(selector)[0]) ? quiet : usual).set(selector, where);
  }
  return { usual, quiet };
}
