// What clients were told with `recovered: false`: whether something was missing that could not be had.
import { compare, within } from '../../lib/offsets.js';

/** @param {import('./ledger.js').Ledger} ledger */
export function claims(ledger, limits) {
  const counts = { claims: 0, false: 0, needless: 0 };
  const needless = [];
  for (const { client, room, told, got } of ledger.seats) {
    const seen = new Map();
    for (const { n, at } of got) if (!seen.has(n)) seen.set(n, at);
    for (const { recovered, before, offset, at } of told) {
      // Who had no place yet can't have missed anything.
      if (before === undefined) continue;
      counts.claims += 1;
      if (recovered) continue;
      counts.false += 1;
      const first = (since) => since < at && !told.some((earlier) => earlier.before !== undefined && !earlier.recovered && earlier.at > since && earlier.at < at);
      // Nothing is left that could show that a room missed nothing.
      if (ledger.flushed.some(first)) continue;
      const [low, high] = compare(before, offset) < 0 ? [before, offset] : [offset, before];
      const justified = (ledger.sent.get(room) ?? []).some((message) => {
        if (message.outcome === 'refused') return false;
        // Where it went to is not known, so it may have been there.
        if (message.offset === undefined) return message.at < at && (seen.get(message.n) ?? Infinity) >= at;
        // Whoever had it before the server lost it is told as well: the server can't know who had it. And it may be told after
        // what followed, once.
        return ledger.holds(message) !== true && (within(message.offset, low, high) || first(message.answered));
      });
      if (!justified) {
        counts.needless += 1;
        needless.push({ kind: 'needless false', client, room, text: `told that something is missing from ${before} to ${offset}, and history held all of it` });
      }
    }
  }
  // A few may be had: what is not known is told as missing.
  return { counts, violations: counts.needless > limits.needless * counts.claims ? needless : [] };
}
