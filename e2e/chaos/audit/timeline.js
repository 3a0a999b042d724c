// What troubled the installation from when to when, and from when on something is due in spite of it.

/** @typedef {{ from: number, to: number }} Span */

/** Milliseconds before a fault in which Redis may not have saved yet what it accepted: it writes to disk each second. */
const UNSAVED = 1_500;

export class Timeline {
  /** @param {object[]} events @param {import('./index.js').Limits} limits */
  constructor(events, limits) {
    this.limits = limits;
    this.end = events.at(-1)?.at ?? 0;
    /** @type {(Span & { name: string, loses: boolean, cut: string[] })[]} */
    this.faults = [];
    /** client → when the scenario had taken it away @type {Map<string, Span[]>} */
    this.away = new Map();
    /** Replicas were fewer than every write waits for: nothing could be accepted or handed on. @type {Span[]} */
    this.lacking = [];
    for (const { kind, at, name, loses = false, cut = [], client } of events) {
      if (kind === 'fault') this.faults.push({ name, loses, cut, from: at, to: Infinity });
      if (kind === 'healed') this.faults.findLast((fault) => fault.name === name).to = at;
      if (kind === 'lacking') this.lacking.push({ from: at, to: Infinity });
      if (kind === 'ample') this.lacking.at(-1).to = at;
      if (kind === 'left') this.away.set(client, [...(this.away.get(client) ?? []), { from: at, to: Infinity }]);
      if (kind === 'returned') this.away.get(client).at(-1).to = at;
    }
  }

  /**
   * From when on something is due that could be done from `at` on: when no fault that it fell into was left.
   * @param {number} at
   * @param {{ client?: string, writes?: boolean }} [what] whose it is, and whether it needs writes that wait for replicas
   */
  due(at, { client, writes = false } = {}) {
    const spans = this.#spans(client, writes);
    let due = at;
    for (let moved = true; moved;) {
      moved = false;
      for (const { from, to, after } of spans) {
        if (due >= from && due < after && to > due) {
          due = to;
          moved = true;
        }
      }
    }
    return due;
  }

  #known = new Map();

  /** What holds something up: from when on, until when, and until when it is still felt. */
  #spans(client, writes) {
    const key = `${this.away.has(client) ? client : ''} ${writes}`;
    if (!this.#known.has(key)) {
      const { late } = this.limits;
      const troubled = [...this.faults, ...(writes ? this.lacking : [])].map(({ from, to }) => ({ from: from - late, to, after: to + late }));
      this.#known.set(key, [...troubled, ...(this.away.get(client) ?? []).map(({ from, to }) => ({ from: from - late, to, after: to }))]);
    }
    return this.#known.get(key);
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
   * The spans in which nothing was wrong, and had not been for a while; to somebody who `writes` or not. Without
   * `faults` only lacking replicas are wrong.
   */
  calm(after, { writes = false, faults = true } = {}) {
    const spans = [];
    let from = 0;
    for (const fault of [...(faults ? this.faults : []), ...(writes ? this.lacking : [])].sort((a, b) => a.from - b.from)) {
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
