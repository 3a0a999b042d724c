// Messages that came too late: long after they were accepted, or after what held them up was gone.

/** @param {import('./ledger.js').Ledger} ledger @param {import('./timeline.js').Timeline} timeline */
export function lateness(ledger, timeline, limits) {
  const counts = { late: 0, latest_ms: 0 };
  const violations = [];
  for (const { client, room, got, told } of ledger.seats) {
    const began = told[0]?.at ?? 0;
    const sent = new Map(ledger.accepted(room).map((message) => [message.n, message]));
    let latest;
    for (const { n, at } of got) {
      const message = sent.get(n);
      if (!message) continue;
      const late = at - timeline.due(Math.max(message.answered, began), { client, writes: true });
      counts.latest_ms = Math.max(counts.latest_ms, Math.round(late));
      if (late <= limits.late) continue;
      counts.late += 1;
      if (!latest || late > latest.late) latest = { n, late };
    }
    if (latest) violations.push({ kind: 'late', client, room, text: `message ${latest.n} came ${Math.round(latest.late)} ms after it could have` });
  }
  return { counts, violations };
}
