// Readiness that lied: ok while nothing was delivered, not ok while the service did its work, not ok when all was well.
import { intersect, spans } from './timeline.js';

/** Milliseconds between two deliveries, or two accepted messages, within which work is called steady. */
const STEADY = 2_000;

/** The spans of steady work in a list of times. */
function steady(times) {
  const found = [];
  for (const at of times) {
    const last = found.at(-1);
    if (last && at - last.to <= STEADY) last.to = at;
    else found.push({ from: at, to: at });
  }
  return found;
}

/** @template T @param {T[]} all @param {(one: T) => string} key @returns {Map<string, T[]>} */
function group(all, key) {
  const groups = new Map();
  for (const one of all) {
    if (!groups.has(key(one))) groups.set(key(one), []);
    groups.get(key(one)).push(one);
  }
  return groups;
}

/** Who was at which gateway, in which rooms, from when to when. */
function audience(events, end) {
  const seats = [];
  const open = new Map();
  const rooms = new Map();
  for (const { kind, at, client, gateway, room } of events) {
    if (kind === 'connected') open.set(client, { client, gateway, from: at, to: end });
    if (kind === 'connected') seats.push(open.get(client));
    if ((kind === 'disconnected' || kind === 'left') && open.has(client)) {
      open.get(client).to = at;
      open.delete(client);
    }
    if (kind === 'told') rooms.set(client, (rooms.get(client) ?? new Set()).add(room));
  }
  return { seats, rooms };
}

/** @param {object[]} events @param {import('./timeline.js').Timeline} timeline */
export function readiness(events, timeline, limits) {
  const violations = [];
  const counts = { readiness_lies: 0, declared_dead: 0 };
  const end = timeline.end;
  const services = new Map();
  for (const event of events) {
    if (event.kind === 'service') {
      const service = services.get(event.service) ?? { name: event.service, kind: event.service_kind, runs: [], ok: [], told: [] };
      services.set(event.service, service);
      service.runs.push({ at: event.at, so: event.state === 'started' || event.state === 'continued' });
      if (event.state === 'started') service.ok.push({ at: event.at, so: undefined });
    }
    if (event.kind === 'ready') services.get(event.service)?.ok.push({ at: event.at, so: event.ok, text: event.text });
  }
  const lie = (service, span, text) => {
    counts.readiness_lies += 1;
    const why = service.ok.findLast(({ at, so }) => so === false && at < span.to)?.text;
    violations.push({ kind: 'readiness lied', client: service.name, text: `${text} for ${Math.round(span.to - span.from)} ms from ${Math.round(span.from)} ms on${why ? ` (${why})` : ''}` });
  };
  const long = (found) => found.filter(({ from, to }) => to - from > limits.readiness);
  for (const service of services.values()) {
    service.running = spans(service.runs, end);
    service.ready = intersect(service.running, spans(service.ok.map(({ at, so }) => ({ at, so: so === true })), end));
    // One that starts is not ready yet, and says so; how long that may take is asked below.
    let begun = false;
    const after = service.ok.map(({ at, so }) => {
      begun = so === undefined ? false : begun || so;
      return { at, so: begun && so === false };
    });
    service.unready = intersect(service.running, spans(after, end));
  }
  const of = (kind) => [...services.values()].filter((service) => service.kind === kind);
  // Dispatchers that are all there and say that they work: then what is not delivered is the gateway's fault, or theirs.
  const dispatching = of('dispatcher').reduce((all, dispatcher) => intersect(all, dispatcher.ready), timeline.calm(0, { writes: true, faults: false }));

  const { seats, rooms } = audience(events, end);
  const seatsOf = group(seats, ({ client }) => client);
  const gatewayOf = (client, at) => seatsOf.get(client)?.findLast((seat) => seat.from <= at && at <= seat.to)?.gateway;
  const deliveries = new Map();
  for (const { kind, at, client } of events) {
    if (kind !== 'got') continue;
    const gateway = gatewayOf(client, at);
    if (!deliveries.has(gateway)) deliveries.set(gateway, []);
    deliveries.get(gateway).push(at);
  }
  const accepted = events.filter(({ kind, outcome }) => kind === 'sent' && outcome === 'accepted').map(({ answered, room, by }) => ({ at: answered, room, by })).sort((a, b) => a.at - b.at);

  for (const gateway of of('gateway')) {
    const times = deliveries.get(gateway.name) ?? [];
    const there = seats.filter((seat) => seat.gateway === gateway.name);
    const owed = accepted.filter(({ at, room }) => there.some((seat) => seat.from < at && at < seat.to && rooms.get(seat.client)?.has(room)));
    let from = 0;
    for (const [n, before] of [0, ...times].entries()) {
      const next = times[n] ?? end;
      while (from < owed.length && owed[from].at <= before) from += 1;
      const first = owed[from];
      if (!first || first.at >= next || next - first.at <= limits.readiness) continue;
      // Who left meanwhile can't be delivered to.
      const listened = steady(owed.filter(({ at }) => at >= first.at && at <= next).map(({ at }) => at)).map(({ from, to }) => ({ from, to: Math.min(to + STEADY, next) }));
      for (const span of long(intersect(listened, intersect(gateway.ready, dispatching)))) lie(gateway, span, 'ok, while nothing was delivered');
    }
    for (const span of long(intersect(gateway.unready, steady(times)))) lie(gateway, span, 'not ok, while it delivered');
  }
  for (const ingest of of('ingest')) {
    const times = accepted.filter(({ by }) => by === ingest.name).map(({ at }) => at);
    for (const span of long(intersect(ingest.unready, steady(times)))) lie(ingest, span, 'not ok, while it accepted');
  }
  // A dispatcher that is the only one to work, and says that it does not.
  const undispatching = of('dispatcher').reduce((all, dispatcher) => intersect(all, dispatcher.unready), [{ from: 0, to: end }]);
  const everybody = of('gateway').map(({ name }) => steady(deliveries.get(name) ?? [])).reduce(intersect, [{ from: 0, to: end }]);
  if (of('dispatcher').length > 0) for (const span of long(intersect(undispatching, everybody))) lie(of('dispatcher')[0], span, 'no dispatcher ok, while all was delivered');

  for (const service of services.values()) {
    for (const span of intersect(service.unready, timeline.calm(limits.readiness, { service: service.name, writes: service.kind !== 'gateway' }))) {
      if (span.to - span.from > limits.blink) lie(service, span, 'not ok, while nothing was wrong');
    }
    // One that was started has to become ready some time.
    for (const { from, to } of service.running) {
      const due = timeline.due(from, { service: service.name }) + limits.start;
      if (due < to && !service.ok.some(({ at, so }) => so && at >= from && at <= due)) lie(service, { from, to }, 'started and not ready');
    }
  }
  for (const { service, count } of events.filter(({ kind }) => kind === 'declared')) {
    if (timeline.faults.some(({ cut }) => cut.includes(service))) continue;
    counts.declared_dead += count;
    if (count > 0) violations.push({ kind: 'declared dead', client: service, text: `${count} times, though it could reach the primary` });
  }
  return { counts, violations };
}
