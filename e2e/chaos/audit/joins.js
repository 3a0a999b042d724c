// Joins: whether each was answered, and let in when nothing was wrong.

/** @param {object[]} events @param {import('./timeline.js').Timeline} timeline */
export function joins(events, timeline, limits) {
  const counts = { joins: 0, joins_unanswered: 0, joins_refused: 0 };
  const violations = [];
  const answers = new Map();
  // One that was under way when its connection ended may still reach the next one, and be answered there.
  for (const event of events) if (event.kind === 'answered' && !answers.has(event.key)) answers.set(event.key, event);
  for (const { at, key, client, what } of events.filter(({ kind }) => kind === 'asked')) {
    if (what !== 'join') continue;
    counts.joins += 1;
    const answer = answers.get(key);
    const due = timeline.due(at, { client });
    const took = (answer?.at ?? timeline.end) - due;
    if (took > limits.join) {
      counts.joins_unanswered += 1;
      violations.push({ kind: 'join unanswered', client, text: `${key} ${answer ? `was answered ${Math.round(took)} ms after it could have been` : 'was never answered'}` });
    } else if (answer && !answer.ok && answer.code !== 'disconnected' && due === at) {
      counts.joins_refused += 1;
      violations.push({ kind: 'join refused', client, text: `${key}: ${answer.code}` });
    }
  }
  for (const { at, client, code } of events.filter(({ kind }) => kind === 'refused')) {
    violations.push({ kind: 'client turned away', client, text: `${code} at ${Math.round(at)} ms: a stock client does not come back` });
  }
  return { counts, violations };
}
