// What producers were told, and whether it was so: refused is not kept, and what was sent is answered in time.

/** @param {import('./ledger.js').Ledger} ledger @param {import('./timeline.js').Timeline} timeline */
export function outcomes(ledger, timeline, limits) {
  const violations = [];
  const counts = { accepted: 0, refused: 0, unknown: 0 };
  const refused = new Set();
  for (const [room, sent] of ledger.sent) {
    for (const message of sent) {
      counts[message.outcome] += 1;
      if (message.outcome === 'refused') refused.add(`${room} ${message.n}`);
      const took = (message.answered ?? timeline.end) - timeline.due(message.at, { writes: true });
      if (took > limits.accept) violations.push({ kind: 'unanswered', room, text: `message ${message.n} was answered ${Math.round(took)} ms after it could have been` });
    }
  }
  for (const { client, room, got } of ledger.seats) {
    for (const { n } of got) {
      if (refused.has(`${room} ${n}`)) violations.push({ kind: 'refused and delivered', client, room, text: `message ${n}` });
    }
  }
  return { counts, violations };
}
