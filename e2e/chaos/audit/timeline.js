// What troubled the installation from when to when, and from when on something is due in spite of it.

/** @typedef {{ from: number, to: number }} Span */

/** Milliseconds before a fault in which Redis may not have saved yet what it accepted: it writes to disk each second. */
const UNSAVED = 1_500;

/**
 * Milliseconds until others hand on what a dispatcher would have, if that is gone without a word. Leases end after 5 s, but the
 * others know it by its alive key, which may last for 10 s; then they look once more (1 s), take the partitions, and read.
 */
export const TAKE_OVER = 12_000;

export class Timeline {
  /** @param {object[]} events @param {import('./index.js').Limits} limits */
  constructor(events, limits) {
    this.limits = limits;
    this.end = events.at(-1)?.at ?? 0;
    /** `only`: services that it concerns, where it does not concern all. @type {(Span & { name: string, loses: boolean, cut: string[], only?: string[] })[]} */
    this.faults = [];
    /** service → its kind @type {Map<string, string>} */
    this.kinds = new Map();
    /** client → the gateways that it was at, each until it came to another @type {Map<string, (Span & { gateway: string })[]>} */
    this.stays = new Map();
    /** client → when the scenario had taken it away @type {Map<string, Span[]>} */
    this.away = new Map();
    /** Replicas were fewer than every write waits for: nothing could be accepted or handed on. @type {Span[]} */
    this.lacking = [];
    for (const event of events) {
      const { kind, at, name, loses = false, cut = [], only, client } = event;
      if (kind === 'service') this.kinds.set(event.service, event.service_kind);
      if (kind === 'connected') this.#arrived(event);
      if (kind === 'fault') this.faults.push({ name, loses, cut, only, from: at, to: Infinity });
      if (kind === 'healed') this.faults.findLast((fault) => fault.name === name).to = at;
      if (kind === 'lacking') this.lacking.push({ from: at, to: Infinity });
      if (kind === 'ample') this.lacking.at(-1).to = at;
      if (kind === 'left') this.away.set(client, [...(this.away.get(client) ?? []), { from: at, to: Infinity }]);
      if (kind === 'returned') this.away.get(client).at(-1).to = at;
    }
  }

  #arrived({ at, client, gateway }) {
    const stays = this.stays.get(client) ?? [];
    if (stays.length > 0) stays.at(-1).to = at;
    this.stays.set(client, [...stays, { gateway, from: at, to: Infinity }]);
  }

  /**
   * From when on something is due that could be done from `at` on: when no fault that it fell into was left.
   * @param {number} at
   * @param {{ client?: string, service?: string, writes?: boolean }} [what] whose it is, a producer's if nothing is said; and
   *   whether it needs writes that wait for replicas
   */
  due(at, { client, service, writes = false } = {}) {
    const spans = this.#spans(client, service, writes);
    let due = at;
    for (let moved = true; moved;) {
      moved = false;
      for (const { from, to } of spans) {
        if (due >= from && due < to) {
          due = to;
          moved = true;
        }
      }
    }
    return due;
  }

  #known = new Map();

  /** What holds something up: from when on, with what was under way, and until when. */
  #spans(client, service, writes) {
    const alike = client !== undefined && !this.away.has(client) && this.faults.every(({ only }) => !only);
    const key = `${alike ? '' : client} ${service} ${writes}`;
    if (!this.#known.has(key)) {
      const { late } = this.limits;
      const troubled = [...this.faults.flatMap((fault) => this.#felt(fault, client, service, writes)), ...(writes ? this.lacking : []), ...(this.away.get(client) ?? [])];
      this.#known.set(key, troubled.map(({ from, to }) => ({ from: from - late, to })));
    }
    return this.#known.get(key);
  }

  /** When somebody feels a fault: all the time, or as far as it concerns them. */
  #felt({ from, to, only }, client, service, writes) {
    if (!only) return [{ from, to }];
    const some = (kind) => only.some((name) => this.kinds.get(name) === kind);
    if (service) return only.includes(service) ? [{ from, to }] : [];
    if (!client) return some('ingest') ? [{ from, to }] : [];
    const there = (this.stays.get(client) ?? []).filter(({ gateway }) => only.includes(gateway));
    // What is handed on needs a dispatcher, which a join does not.
    const handed = writes && some('dispatcher') ? [{ from, to: Math.min(to, from + TAKE_OVER) }] : [];
    return [...intersect(there, [{ from, to }]), ...handed];
  }

  /**
   * Whether Redis may lose what was accepted then: by a fault of a kind that says so, in its time. `more`: milliseconds that
   * it may have taken on its way since.
   */
  mayLose(at, more = 0) {
    return this.faults.some(({ loses, from, to }) => loses && at >= from - UNSAVED && at <= to + this.limits.moved + more);
  }

  /** Whether it may not be known yet what Redis lost: in such a fault, and for a while after it. */
  unsettled(at) {
    return this.faults.some(({ loses, from, to }) => loses && at >= from && at <= to + this.limits.settled);
  }

  /**
   * The spans in which nothing was wrong with a service, or with any, and had not been for a while; to somebody who `writes`
   * or not. Without `faults` only lacking replicas are wrong.
   */
  calm(after, { service, writes = false, faults = true } = {}) {
    const spans = [];
    let from = 0;
    const met = this.faults.filter(({ only }) => faults && (!only || !service || only.includes(service)));
    for (const fault of [...met, ...(writes ? this.lacking : [])].sort((a, b) => a.from - b.from)) {
      if (fault.from > from) spans.push({ from, to: fault.from });
      from = Math.max(from, fault.to + after);
    }
    if (this.end > from) spans.push({ from, to: this.end });
    return spans;
  }
}

/** Spans that both have in common. */
export function intersect(some, others) {
  return some.flatMap((a) => others.map((b) => ({ from: Math.max(a.from, b.from), to: Math.min(a.to, b.to) })).filter(({ from, to }) => from < to));
}

/**
 * The spans in which a state was so.
 * @param {{ at: number, so: boolean }[]} changes in order
 * @param {number} end
 * @returns {Span[]}
 */
export function spans(changes, end) {
  const found = [];
  for (const { at, so } of changes) {
    const open = found.at(-1);
    if (so && open?.to !== Infinity) found.push({ from: at, to: Infinity });
    if (!so && open?.to === Infinity) open.to = at;
  }
  return found.map(({ from, to }) => ({ from, to: Math.min(to, end) }));
}
