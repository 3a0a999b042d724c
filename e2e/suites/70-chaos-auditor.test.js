// The auditor of `make chaos`: one fault of every kind is put into a clean log, and found; the clean log passes.
import assert from 'node:assert/strict';
import test from 'node:test';
import { GENEROUS, STRICT, audit, complaints } from '../chaos/audit/index.js';
import { TAKE_OVER } from '../chaos/audit/timeline.js';

const GATEWAYS = ['gateway-0', 'gateway-1'];
const FAULT = { from: 20_000, to: 24_000 };
const END = 60_000;
const offset = (n) => `${1_000 + n}-0`;

/**
 * What an installation logs in which all is well: a message each 100 ms, a client at each gateway, and a fault in which
 * nothing is accepted, after which both clients come back with their cursors.
 */
function clean() {
  const log = [];
  const add = (at, kind, fields = {}) => log.push({ at, kind, ...fields });
  for (const service of [...GATEWAYS, 'dispatcher-0', 'dispatcher-1', 'ingest-0']) {
    add(0, 'service', { service, service_kind: service.split('-')[0], state: 'started' });
    add(500, 'ready', { service, ok: true, text: '' });
  }
  for (const [n, gateway] of GATEWAYS.entries()) {
    const client = `client-${n}`;
    add(600, 'connected', { client, gateway });
    add(700, 'told', { client, room: 'a', before: undefined, offset: offset(0), recovered: false });
  }
  let n = 0;
  for (let at = 1_000; at < END - 1_000; at += 100) {
    if (at >= FAULT.from && at < FAULT.to) continue;
    n += 1;
    add(at, 'sent', { room: 'a', n, by: 'ingest-0', outcome: 'accepted', id: `id-${n}`, offset: offset(n), answered: at + 5 });
    for (const client of ['client-0', 'client-1']) add(at + 10, 'got', { client, room: 'a', n, id: `id-${n}`, offset: offset(n) });
    if (n % 10 === 0) {
      add(at + 20, 'asked', { client: 'client-0', key: `join-${n}`, what: 'join' });
      add(at + 30, 'answered', { key: `join-${n}`, ok: true });
    }
  }
  add(FAULT.from, 'fault', { name: 'a fault', loses: true });
  for (const client of ['client-0', 'client-1']) add(FAULT.from + 1, 'disconnected', { client });
  add(FAULT.to, 'healed', { name: 'a fault' });
  const last = offset(190);
  for (const [m, gateway] of GATEWAYS.entries()) {
    add(FAULT.to + 1, 'connected', { client: `client-${m}`, gateway });
    add(FAULT.to + 2, 'told', { client: `client-${m}`, room: 'a', before: last, offset: last, recovered: true });
  }
  add(END - 2, 'held', { room: 'a', offsets: Array.from({ length: n }, (_, each) => offset(each + 1)), bounded: false });
  add(END - 1, 'queued', { count: 0 });
  for (const service of GATEWAYS) add(END - 1, 'declared', { service, count: 0 });
  add(END, 'end');
  return log;
}

const find = (log, kind, fits) => log.find((event) => event.kind === kind && Object.entries(fits).every(([field, value]) => event[field] === value));
const without = (log, ...gone) => log.filter((event) => !gone.includes(event));
const got = (log, client, n) => find(log, 'got', { client, n });
const sent = (log, n) => find(log, 'sent', { n });
/** The kinds of what is wrong. */
const kinds = (log, how) => [...new Set(audit(log, how).violations.map(({ kind }) => kind))];
/** Everything that was got by a client, or all, in a span is not. */
const silent = (log, from, to, client) => log.filter(({ kind, at, client: who }) => !(kind === 'got' && at >= from && at < to && (!client || who === client)));
const unheld = (log, ...numbers) => {
  const held = find(log, 'held', {});
  held.offsets = held.offsets.filter((each) => !numbers.map(offset).includes(each));
  return log;
};

test('a clean log passes, and is counted', () => {
  const { violations, counts, explained } = audit(clean());
  assert.deepEqual(violations, []);
  assert.equal(counts.accepted, 540);
  assert.equal(counts.deliveries, 1_080);
  assert.equal(counts.claims, 2);
  assert.deepEqual(explained, { redis_lost: 0, redis_doubled: 0 });
});

test('a lost message is found, also the last one', () => {
  for (const n of [100, 540]) {
    const log = clean();
    assert.deepEqual(kinds(without(log, got(log, 'client-1', n))), ['lost'], `message ${n}`);
  }
});

test('a doubled message is found, whether it came again at its place or at another', () => {
  const log = clean();
  const message = got(log, 'client-0', 100);
  assert.deepEqual(kinds([...log, { ...message, at: message.at + 1 }]), ['doubled']);
  assert.deepEqual(kinds([...log, { ...message, at: message.at + 5, offset: '1100-1' }]), ['doubled']);
});

test('disorder is found', () => {
  const log = clean();
  const [one, two] = [got(log, 'client-0', 100), got(log, 'client-0', 101)];
  [one.at, two.at] = [two.at, one.at];
  assert.deepEqual(kinds(log), ['disordered']);
});

test('`true` over a hole is found', () => {
  const log = clean();
  const claim = find(log, 'told', { client: 'client-1', recovered: true });
  claim.before = offset(189);
  assert.deepEqual(kinds(without(log, got(log, 'client-1', 190))), ['true over a hole']);
});

test('`true` that is corrected by a later `false` is counted apart, and found only long after the fault', () => {
  const verdict = (since, limits = STRICT) => {
    const log = unheld(clean(), 190);
    const claim = find(log, 'told', { client: 'client-1', recovered: true });
    const marker = { ...claim, at: FAULT.to + since + 500, recovered: false };
    Object.assign(claim, { at: FAULT.to + since, before: offset(189) });
    // What came since would be above its place.
    const still = silent(without(log, got(log, 'client-1', 190)), FAULT.to, marker.at, 'client-1');
    const missed = log.filter((event) => event.kind === 'got' && event.client === 'client-1' && event.at >= FAULT.to && event.at < marker.at);
    return audit([...still, marker, ...missed.map((event) => ({ ...event, at: marker.at + event.n / 1_000 }))], { mayLose: true, limits: { ...limits, needless: 1 } });
  };
  const soon = verdict(900);
  assert.deepEqual(soon.violations, []);
  assert.deepEqual([soon.counts.false_true, soon.counts.false_true_corrected, soon.counts.told], [0, 1, 1]);
  const late = verdict(1_100);
  assert.deepEqual(late.violations.map(({ kind }) => kind), ['true over a hole']);
  assert.deepEqual([late.counts.false_true, late.counts.false_true_corrected], [0, 1]);
  assert.deepEqual(verdict(1_100, { ...STRICT, toldLate: true }).violations, [], 'nobody alive knew');
});

test('`false` is found where history held all, and is no fault where it did not', () => {
  const needless = clean();
  find(needless, 'told', { client: 'client-1', recovered: true }).recovered = false;
  assert.deepEqual(kinds(needless), ['needless false']);
  // One in many is let pass.
  const many = Array.from({ length: 200 }, (_, n) => ({ at: 30_000 + n, kind: 'told', client: 'client-1', room: 'b', before: offset(1), offset: offset(1), recovered: true }));
  assert.deepEqual(kinds([...needless, ...many]), []);
  // After everything was deleted nobody can say what a room lacks, once.
  const once = find(needless, 'told', { client: 'client-1', before: offset(190) });
  const flushed = [...needless, { at: once.at - 1, kind: 'flushed' }];
  assert.deepEqual(kinds(flushed), []);
  assert.deepEqual(kinds([...flushed, { ...once, at: once.at + 1 }]), ['needless false']);
  // And where something was missing indeed.
  const told = unheld(clean(), 190);
  for (const client of ['client-0', 'client-1']) Object.assign(find(told, 'told', { client, recovered: true }), { before: offset(189), recovered: false });
  const log = without(told, got(told, 'client-0', 190), got(told, 'client-1', 190));
  assert.deepEqual(kinds(log, { mayLose: true }), []);
});

test('what Redis may lose is counted apart, and only where the docs say so', () => {
  const log = unheld(clean(), 190);
  assert.deepEqual(audit(log, { mayLose: true }).explained, { redis_lost: 1, redis_doubled: 0 });
  assert.deepEqual(kinds(log, { mayLose: true }), []);
  assert.deepEqual(kinds(log, { mayLose: false }), ['lost on the server'], 'with all replicas waited for');
  assert.deepEqual(kinds(unheld(clean(), 100), { mayLose: true }), ['lost on the server'], 'long before the fault');
  // Nobody is excused from telling.
  const silenced = unheld(clean(), 190);
  assert.deepEqual(kinds(without(silenced, got(silenced, 'client-1', 190)), { mayLose: true }), ['lost']);
  const claimed = unheld(clean(), 190);
  find(claimed, 'told', { client: 'client-1', recovered: true }).before = offset(189);
  assert.deepEqual(kinds(without(claimed, got(claimed, 'client-1', 190)), { mayLose: true }), ['true over a hole']);
});

test('what Redis loses after the services could have moved is found', () => {
  // The first messages after the fault are 191, 192, and so on: one each 100 ms.
  const lost = (n) => kinds(unheld(clean(), n), { mayLose: true, limits: { ...GENEROUS, needless: 1 } });
  assert.deepEqual(lost(191 + 14), [], '1.4 s after the fault');
  assert.deepEqual(lost(191 + 16), ['lost on the server'], '1.6 s after it');
  // And what had been there for long before it.
  assert.deepEqual(lost(190 - 14), []);
  assert.deepEqual(lost(190 - 16), ['lost on the server']);
});

test('a loss that nobody knew of may be told late, where that is asked for, and not never', () => {
  const lost = unheld(clean(), 190);
  const log = without(lost, got(lost, 'client-1', 190));
  const late = { at: 40_000, kind: 'told', client: 'client-1', room: 'a', before: offset(300), offset: offset(301), recovered: false };
  const how = (toldLate) => ({ mayLose: true, limits: { ...STRICT, needless: 1, toldLate } });
  assert.deepEqual(kinds([...log, late], how(true)), []);
  assert.deepEqual(kinds([...log, late], how(false)), ['lost']);
  assert.deepEqual(kinds(log, how(true)), ['lost']);
});

test('a loss may be told behind a message that overtook its marker, while it is not known yet', () => {
  const lost = unheld(clean(), 190);
  const log = without(lost, got(lost, 'client-1', 190), find(lost, 'told', { client: 'client-1', recovered: true }));
  const marker = (after) => ({ at: FAULT.to + after, kind: 'told', client: 'client-1', room: 'a', before: offset(195), offset: offset(196), recovered: false });
  const how = { mayLose: true, limits: { ...STRICT, needless: 1 } };
  assert.deepEqual(kinds([...log, marker(900)], how), []);
  assert.deepEqual(kinds([...log, marker(1_100)], how), ['lost']);
});

test('a message that Redis lost and that was sent again came twice by its fault', () => {
  const log = unheld(clean(), 190);
  const message = got(log, 'client-0', 190);
  message.at = FAULT.from - 100;
  const again = { ...message, at: FAULT.to + 50, offset: `${offset(190).slice(0, -2)}-5` };
  assert.equal(audit([...log, again], { mayLose: true }).explained.redis_doubled, 1);
  assert.deepEqual(kinds([...log, again], { mayLose: true }), []);
  assert.ok(kinds([...log, again]).includes('doubled'));
});

test('what comes late is found: after a fault, without one, and to who came back', () => {
  const late = (n, by) => {
    const log = clean();
    // Those behind it can't overtake it.
    for (const event of log) if (event.kind === 'got' && event.client === 'client-0' && event.n >= n && event.n < n + 5) event.at += by;
    for (const event of log) if (event.kind === 'got' && event.client === 'client-0' && event.n >= n + 5 && event.n < n + 40) event.at = Math.max(event.at, 10 + got(log, 'client-0', n + 4).at);
    return log;
  };
  assert.deepEqual(kinds(late(300, 2_500)), ['late']);
  assert.deepEqual(kinds(late(300, 1_500)), []);
  const during = clean();
  const message = got(during, 'client-0', 190);
  message.at = FAULT.to + 1_900;
  assert.ok(!kinds(during).includes('late'), 'it waited for the end of the fault');
  message.at = FAULT.to + 2_200;
  assert.ok(kinds(during).includes('late'));
});

test('who was taken away is owed nothing meanwhile, and all of it afterwards', () => {
  const log = clean();
  log.push({ at: 40_000, kind: 'left', client: 'client-1' }, { at: 45_000, kind: 'returned', client: 'client-1' });
  const held = log.filter(({ kind, client, at }) => kind === 'got' && client === 'client-1' && at >= 40_000 && at < 45_000);
  for (const [n, event] of held.entries()) event.at = 45_000 + n;
  assert.ok(!kinds(log).includes('late'));
  for (const event of held) event.at += 2_500;
  assert.ok(kinds(log).includes('late'));
});

test('refused and delivered is found', () => {
  const log = clean();
  sent(log, 100).outcome = 'refused';
  assert.ok(kinds(log).includes('refused and delivered'));
  const unknown = clean();
  sent(unknown, 100).outcome = 'unknown';
  assert.deepEqual(kinds(unknown), [], 'who does not know can be told anything');
});

test('a producer who is not answered is found', () => {
  const log = clean();
  sent(log, 100).answered += 6_000;
  assert.ok(kinds(log).includes('unanswered'));
});

test('a join is found that is not answered, answered late, or refused in calm', () => {
  const unanswered = clean();
  assert.deepEqual(kinds(without(unanswered, find(unanswered, 'answered', { key: 'join-100' }))), ['join unanswered']);
  const late = clean();
  find(late, 'answered', { key: 'join-100' }).at += 5_100;
  assert.deepEqual(kinds(late), ['join unanswered']);
  const again = clean();
  again.push({ ...find(again, 'answered', { key: 'join-100' }), at: 50_000 });
  assert.deepEqual(kinds(again), [], 'its first answer counts');
  const refused = clean();
  Object.assign(find(refused, 'answered', { key: 'join-100' }), { ok: false, code: 'unavailable' });
  assert.deepEqual(kinds(refused), ['join refused']);
  // In a fault an answer may wait for its end, and be a refusal.
  const during = clean();
  during.push({ at: 21_000, kind: 'asked', client: 'client-0', key: 'x', what: 'join' }, { at: FAULT.to + 4_900, kind: 'answered', key: 'x', ok: false, code: 'unavailable' });
  assert.deepEqual(kinds(during), []);
  during.at(-1).at += 200;
  assert.deepEqual(kinds(during), ['join unanswered']);
});

test('a client that a gateway turns away for good is found', () => {
  assert.deepEqual(kinds([...clean(), { at: 30_000, kind: 'refused', client: 'client-0', code: 'too_many_rooms: …' }]), ['client turned away']);
});

test('readiness is found that is ok while nothing is delivered', () => {
  const deaf = silent(clean(), 30_000, 36_000, 'client-1');
  const lies = audit(deaf).violations.filter(({ kind }) => kind === 'readiness lied');
  assert.deepEqual(lies.map(({ client }) => client), ['gateway-1'], 'the other one delivered');
  assert.match(lies[0].text, /ok, while nothing was delivered/);
  // It says so: no lie.
  const honest = [...silent(clean(), 30_000, 36_000, 'client-1'), { at: 31_000, kind: 'ready', service: 'gateway-1', ok: false, text: 'channel' }, { at: 36_000, kind: 'ready', service: 'gateway-1', ok: true }];
  assert.ok(!audit(honest).violations.some(({ text }) => /nothing was delivered/.test(text)));
  // The dispatchers say so: it is not the gateways' to say.
  const dispatchers = [...silent(clean(), 30_000, 36_000), ...['dispatcher-0', 'dispatcher-1'].flatMap((service) => [{ at: 30_500, kind: 'ready', service, ok: false, text: 'redis' }, { at: 36_000, kind: 'ready', service, ok: true }])];
  assert.ok(!audit(dispatchers).violations.some(({ text }) => /nothing was delivered/.test(text)));
  // Nobody was there.
  const gone = silent(clean(), 30_000, 36_000, 'client-1');
  gone.push({ at: 29_999, kind: 'disconnected', client: 'client-1' }, { at: 36_000, kind: 'connected', client: 'client-1', gateway: 'gateway-1' });
  assert.ok(!kinds(gone).includes('readiness lied'));
});

test('readiness is found that is not ok while the service works, or when all is well', () => {
  const unready = (service, from, to) => [...clean(), { at: from, kind: 'ready', service, ok: false, text: 'redis' }, { at: to, kind: 'ready', service, ok: true, text: '' }];
  for (const service of ['gateway-0', 'ingest-0']) {
    const { violations } = audit(unready(service, 31_000, 37_000));
    assert.ok(violations.some(({ kind, client, text }) => kind === 'readiness lied' && client === service && /while it/.test(text)), service);
  }
  assert.ok(audit([...unready('dispatcher-0', 31_000, 37_000), ...unready('dispatcher-1', 31_000, 37_000).slice(-2)]).violations.some(({ text }) => /no dispatcher ok/.test(text)));
  for (const service of [...GATEWAYS, 'dispatcher-1', 'ingest-0']) {
    assert.deepEqual(kinds(unready(service, 31_000, 33_000)), ['readiness lied'], `${service} was not ready in calm`);
    assert.deepEqual(kinds(unready(service, FAULT.from, FAULT.to + 4_000)), [], `${service} may say what is wrong in a fault`);
  }
  // Before it was ready for the first time it starts.
  const starting = [...clean(), ...[[30_000, undefined], [30_100, false], [33_000, true]].map(([at, ok]) => (ok === undefined
    ? { at, kind: 'service', service: 'ingest-1', service_kind: 'ingest', state: 'started' }
    : { at, kind: 'ready', service: 'ingest-1', ok, text: 'startup' }))];
  assert.deepEqual(kinds(starting), []);
  const never = [...clean(), { at: 30_000, kind: 'service', service: 'ingest-1', service_kind: 'ingest', state: 'started' }, { at: 30_100, kind: 'ready', service: 'ingest-1', ok: false, text: 'redis' }];
  assert.deepEqual(kinds(never), ['readiness lied']);
});

test('a gateway that is declared dead is found, unless it was cut off', () => {
  const log = clean();
  find(log, 'declared', { service: 'gateway-1' }).count = 1;
  assert.deepEqual(kinds(log), ['declared dead']);
  find(log, 'fault', {}).cut = ['gateway-1'];
  assert.deepEqual(kinds(log), []);
});

test('while replicas are lacking that every write waits for, nothing has to be accepted, but all else goes on', () => {
  const lacking = (...more) => [...clean(), { at: 30_000, kind: 'lacking' }, { at: 40_000, kind: 'ample' }, ...more].sort((a, b) => a.at - b.at);
  const slow = lacking();
  const message = slow.find(({ kind, at }) => kind === 'sent' && at === 31_000);
  message.answered = 41_000;
  assert.deepEqual(kinds(slow), [], 'it was answered when it could be');
  message.answered = 46_000;
  assert.ok(kinds(slow).includes('unanswered'));
  const unready = (service) => lacking({ at: 31_000, kind: 'ready', service, ok: false, text: 'replicas' }, { at: 33_000, kind: 'ready', service, ok: true, text: '' });
  assert.deepEqual(kinds(unready('dispatcher-0')), []);
  assert.deepEqual(kinds(unready('gateway-0')), ['readiness lied']);
  assert.deepEqual(kinds(lacking({ at: 31_000, kind: 'asked', client: 'client-0', key: 'x', what: 'join' })), ['join unanswered']);
});

/** A clean log with a fault of some services only, 30 s to 50 s, in which those clients got nothing until later. */
function addressed(only, clients, until) {
  const log = [...clean(), { at: 30_000, kind: 'fault', name: 'some', only }, { at: 50_000, kind: 'healed', name: 'some' }];
  for (const event of log) if (event.kind === 'got' && clients.includes(event.client) && event.at >= 30_000 && event.at < until) event.at = until + event.n / 1_000;
  return log;
}

test('a fault of one gateway excuses the clients that are there, and nobody else', () => {
  // That it says it is ready meanwhile is found all the same.
  assert.deepEqual(kinds(addressed(['gateway-0'], ['client-0'], 49_000)), ['readiness lied']);
  const { violations } = audit(addressed(['gateway-0'], ['client-0', 'client-1'], 34_000));
  assert.deepEqual(violations.map(({ kind, client }) => [kind, client]), [['late', 'client-1']]);
  // From when on it is elsewhere, it gets what comes there.
  const moved = (at) => [...addressed(['gateway-0'], ['client-0'], 40_000), { at, kind: 'connected', client: 'client-0', gateway: 'gateway-1' }];
  assert.ok(!kinds(moved(38_500)).includes('late'));
  assert.ok(kinds(moved(37_500)).includes('late'));
});

test('a fault of one dispatcher excuses late messages until its partitions are taken over, and no joins', () => {
  const both = ['client-0', 'client-1'];
  const late = (until) => kinds(addressed(['dispatcher-0'], both, until)).includes('late');
  assert.ok(!late(30_000 + TAKE_OVER + 1_900));
  assert.ok(late(30_000 + TAKE_OVER + 2_100));
  const join = (only) => kinds([...addressed(only, [], 0), { at: 35_000, kind: 'asked', client: 'client-0', key: 'x', what: 'join' }, { at: 45_000, kind: 'answered', key: 'x', ok: true }]);
  assert.deepEqual(join(['dispatcher-0']), ['join unanswered']);
  assert.deepEqual(join(['gateway-1']), ['join unanswered']);
  assert.deepEqual(join(['gateway-0', 'dispatcher-0']), []);
});

test('a fault of some services excuses producers only if an ingest is among them, and no readiness of others', () => {
  const unanswered = (only) => {
    const log = addressed(only, [], 0);
    sent(log, 300).answered += 8_000;
    return kinds(log).includes('unanswered');
  };
  assert.ok(unanswered(['gateway-0', 'dispatcher-0']));
  assert.ok(!unanswered(['ingest-0']));
  const unready = (service) => kinds([...addressed(['gateway-0', 'ingest-0'], [], 0), { at: 35_000, kind: 'ready', service, ok: false, text: 'redis' }, { at: 37_000, kind: 'ready', service, ok: true, text: '' }]);
  for (const service of ['gateway-0', 'ingest-0']) assert.deepEqual(unready(service), [], service);
  for (const service of ['gateway-1', 'dispatcher-0']) assert.deepEqual(unready(service), ['readiness lied'], service);
});

test('queues that are not drained are found', () => {
  const log = clean();
  find(log, 'queued', {}).count = 3;
  assert.deepEqual(kinds(log), ['not drained']);
});

test('a bounded history may have lost its beginning, and who missed that is told', () => {
  const log = clean();
  Object.assign(find(log, 'held', {}), { bounded: true, offsets: Array.from({ length: 50 }, (_, n) => offset(491 + n)) });
  assert.deepEqual(kinds(log), []);
  const missed = without(log, got(log, 'client-1', 190));
  assert.deepEqual(kinds(missed), ['lost']);
  const claim = find(missed, 'told', { client: 'client-1', recovered: true });
  Object.assign(claim, { before: offset(189), recovered: false });
  assert.deepEqual(kinds(missed), []);
});

test('complaints say how often, and the first cases', () => {
  const log = clean();
  const lines = complaints(audit(without(log, got(log, 'client-1', 100), got(log, 'client-1', 101)), { limits: STRICT }), 1);
  assert.deepEqual(lines, ['lost: 2\n  client-1 in a: message 100 at 1100-0 did not come, and it was told nothing']);
});
