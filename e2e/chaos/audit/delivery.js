// What each client got of each room, held against what was accepted: lost, doubled, disordered.
import { compare, within } from '../../lib/offsets.js';

/**
 * Where a client was told of a loss of this message: that something is missing where it was. With `late`, what the server
 * lost may be told at any later place.
 */
export function told({ told: claims }, message, held, late = false) {
  return claims.find(({ recovered, before, offset, at }) => {
    if (recovered || before === undefined) return false;
    if (within(message.offset, before, offset)) return true;
    // What the server lost may have stood higher than where it goes on.
    return !held && message.answered < at && (late || compare(message.offset, before) > 0);
  });
}

/** Where a client was told that nothing was missing where this message was. */
export const assured = ({ told: claims }, message) => claims.filter(({ recovered, before, offset }) => recovered && before !== undefined && within(message.offset, before, offset));

/** Where a client was told of a loss behind messages that had overtaken its marker. */
const marked = ({ told: claims }, message) => claims.find(({ recovered, before, offset, at }) => !recovered && before !== undefined && at > message.answered && compare(message.offset, offset) < 0);

/** Where a client was told later that something is missing after all. */
const corrects = ({ told: claims }, wrong) => claims.find(({ recovered, before, at }) => !recovered && before !== undefined && at > wrong.at);

/** Messages that are missing at a client although it was owed them. */
export function missing(seat, ledger) {
  const seen = new Set(seat.got.map(({ n }) => n));
  if (seat.base === undefined) return [];
  return ledger.accepted(seat.room).filter(({ n, offset }) => !seen.has(n) && compare(offset, seat.base) > 0);
}

/** What the server itself lost: accepted, and not there at the end. */
export function serverLost(ledger) {
  return [...ledger.sent.keys()].flatMap((room) => ledger.accepted(room)).filter((message) => ledger.holds(message) === false);
}

/** @param {import('./ledger.js').Ledger} ledger @param {import('./timeline.js').Timeline} timeline */
export function delivery(ledger, timeline, { mayLose, toldLate = false }) {
  const violations = [];
  const counts = { deliveries: 0, lost: 0, doubled: 0, disordered: 0, told: 0, false_true: 0, false_true_corrected: 0 };
  const explained = { redis_lost: 0, redis_doubled: 0 };
  const blame = (kind, count, { client, room }, text) => {
    counts[count] += 1;
    violations.push({ kind, client, room, text });
  };
  const excused = (at, more) => mayLose && timeline.mayLose(at, more);

  for (const message of serverLost(ledger)) {
    if (excused(message.answered)) explained.redis_lost += 1;
    else blame('lost on the server', 'lost', { room: message.room }, `message ${message.n} at ${message.offset} was accepted and is not there, and Redis had no reason to lose it`);
  }
  for (const seat of ledger.seats) {
    const first = new Map();
    let place;
    let highest = 0;
    for (const event of seat.events) {
      if (event.kind === 'told') {
        // Only a told loss may lead back.
        if (!event.recovered) [place, highest] = [event.offset, 0];
        continue;
      }
      counts.deliveries += 1;
      const before = first.get(event.n);
      if (before) {
        const gone = ledger.holds({ room: seat.room, offset: before.offset }) === false;
        // When that one was accepted is not known, only when it came.
        if (gone && excused(before.at, timeline.limits.late)) explained.redis_doubled += 1;
        else blame('doubled', 'doubled', seat, `message ${event.n} came at ${before.offset} and at ${event.offset}`);
      } else if ((place && compare(event.offset, place) <= 0) || event.n < highest) {
        blame('disordered', 'disordered', seat, `message ${event.n} at ${event.offset} came after ${highest} at ${place}`);
      }
      first.set(event.n, before ?? event);
      highest = Math.max(highest, event.n);
      place = event.offset;
    }
    for (const message of missing(seat, ledger)) {
      const held = ledger.holds(message);
      const text = `message ${message.n} at ${message.offset}${held === false ? ', which the server lost,' : ''}`;
      // It takes a while until the marker of a loss is written.
      const overtaken = held === true ? undefined : marked(seat, message);
      const right = told(seat, message, held, toldLate) ?? (overtaken && timeline.unsettled(overtaken.at) ? overtaken : undefined);
      const wrong = assured(seat, message).filter(({ at }) => !right || at < right.at);
      // A wrong `true` led it past the message, so it is taken back at a place above.
      const corrected = wrong.length > 0 && (right ?? (held === true ? undefined : corrects(seat, wrong.at(-1))));
      if (right || corrected) counts.told += 1;
      if (corrected) counts.false_true_corrected += 1;
      // It takes a while until it is known what was lost.
      if (corrected && !wrong.every(({ at }) => toldLate || timeline.unsettled(at))) violations.push({ kind: 'true over a hole', client: seat.client, room: seat.room, text: `${text} did not come, and it was told that nothing is missing when the loss had to be known, and the truth later` });
      else if (!corrected && wrong.length > 0) blame('true over a hole', 'false_true', seat, `${text} did not come, and it was told that nothing is missing`);
      else if (!corrected && !right) blame('lost', 'lost', seat, `${text} did not come, and it was told nothing`);
    }
  }
  return { counts, explained, violations };
}
