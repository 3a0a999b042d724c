// Cuts a client off at random: anywhere, before the first message of a session, or in the middle of a replay; by a reset
// or by a black hole. And it sees where the client was then.
import assert from 'node:assert/strict';
import { until } from './until.js';

/** Finds something in what flows through connections, also where it lies across two chunks. */
export class Scanner {
  /** @param {RegExp} pattern with one group, and `g` @param {number} length no match is longer */
  constructor(pattern, length) {
    this.pattern = pattern;
    this.length = length;
    this.carried = new WeakMap();
  }

  /** What ends in these bytes: `{ what, at }`, `at` being the place behind it. */
  find(connection, bytes) {
    const carried = this.carried.get(connection) ?? '';
    const text = carried + bytes.toString('latin1');
    this.carried.set(connection, text.slice(-this.length));
    return [...text.matchAll(this.pattern)]
      .map((match) => ({ what: match[1], at: match.index + match[0].length - carried.length }))
      .filter(({ at }) => at > 0);
  }
}

export class Cutter {
  /** Where the client was, as often as each was so. */
  places = { handshake: 0, first: 0, replay: 0, live: 0 };
  /** What was done to it. A hole is noticed by its silence; in a half one only the client knows at once. */
  means = { reset: 0, hole: 0, half: 0 };
  session = undefined;
  armed = undefined;
  swallowed = [];

  /**
   * @param {object} what
   * @param {import('./proxy.js').Proxy} what.proxy between the client and the gateway
   * @param {import('./random.js').Random} what.random
   * @param {{ received: { id: string, room: string }[], connected: boolean, disconnects: number }} what.client
   * @param {{ received: { id: string, room: string }[] }} what.witness at the same gateway, never cut, in the same rooms:
   *   what it has seen before a session of the client begins comes to that session by a replay only
   * @param {{ room: string, messages: number }} what.pile what the client has to have missed before a replay is cut
   * @param {() => void} [what.onReturn] the client is back beside a session of its own that stands half open
   */
  constructor({ proxy, random, client, witness, pile, onReturn }) {
    Object.assign(this, { proxy, random, client, witness, pile, onReturn });
    this.ids = new Scanner(/"id":"([0-9a-f-]{36})"/g, 43);
    this.told = new Scanner(/("cursors"),/g, 10);
    proxy.greet = () => this.begin();
    proxy.watch = (direction, bytes, pair) => (direction === 'up' ? true : this.look(pair, bytes));
  }

  /** What the witness has and the client has not. */
  owed() {
    const had = new Set(this.client.received.map(({ id }) => id));
    return this.witness.received.filter(({ id }) => !had.has(id));
  }

  /** A connection after all were gone: a session will come of it. */
  begin() {
    this.session ??= { owed: new Map(this.owed().map((message) => [message.id, message])), told: false, chunks: 0, passed: 0, replayed: 0 };
  }

  /** How many of these bytes for the client may pass. */
  look(pair, bytes) {
    const { session, armed } = this;
    const told = this.told.find(pair, bytes).length > 0;
    const ids = this.ids.find(pair, bytes);
    if (!session) return true;
    session.chunks += 1;
    const replayed = ids.filter(({ what }) => session.owed.has(what)).length;
    const due = armed && !armed.done && {
      anywhere: session.chunks >= armed.chunks,
      first: session.passed === 0 && ids.length > 0,
      replay: session.replayed + replayed >= 1 + armed.part * session.owed.size && session.replayed > 0,
    }[armed.place];
    let passing = bytes.length;
    if (due) {
      // Never all: who polls goes on without noticing when an answer is whole.
      passing = this.random.below(armed.place === 'first' ? ids[0].at : bytes.length);
      armed.done = { connected: this.client.connected, disconnects: this.client.disconnects, holes: this.proxy.swallow() };
    }
    const passed = ids.filter(({ at }) => at <= passing);
    session.passed += passed.length;
    session.replayed += passed.filter(({ what }) => session.owed.has(what)).length;
    if (told && !session.told) {
      session.told = true;
      if (this.half && !due) this.onReturn?.();
    }
    return passing;
  }

  /** Cuts it off so often. Gives each: where it was, by what means, and the session that ended. */
  async run(cuts) {
    const places = this.random.deck({ anywhere: 0.6, first: 0.2, replay: 0.2 }, cuts);
    const means = this.random.deck({ reset: 0.5, hole: 0.25, half: 0.25 }, cuts);
    const done = [];
    for (let cut = 0; cut < cuts; cut += 1) done.push(await this.cut(places[cut], means[cut]));
    this.end();
    return done;
  }

  /** Cuts it off once, and waits until it noticed. */
  async cut(place, wish) {
    const { proxy, client, random, pile } = this;
    const [chunks, part] = [1 + random.below(40), random.next() * 0.7];
    if (place !== 'anywhere') {
      // Its session may have begun already; these want one from its beginning.
      proxy.refusing = place === 'replay';
      proxy.cut([...proxy.pairs].filter((pair) => !pair.hole));
      this.session = undefined;
      if (proxy.refusing) await until('enough is missed', () => this.owed().filter(({ room }) => room === pile.room).length >= pile.messages, 60_000);
      proxy.refusing = false;
    }
    this.armed = { place, chunks, part };
    const { connected, disconnects, holes } = await until(`it can be cut: ${JSON.stringify(this.armed)}`, () => this.armed.done, 60_000);
    const { session } = this;
    // A client that is not connected yet would notice a hole by the time it gives a handshake only.
    const means = connected ? wish : 'reset';
    if (place === 'replay') await until('it has some of what it missed', () => this.replaying(session), 500).catch(() => {});
    const opened = proxy.opened;
    this.session = undefined;
    if (means === 'reset') proxy.cut(holes);
    if (means === 'half') holes.forEach((pair) => proxy.forsake(pair));
    if (means === 'reset') proxy.lift();
    await until('the client noticed', () => client.disconnects > disconnects || (!connected && proxy.opened > opened), 60_000);
    proxy.lift();
    // What came meanwhile was swallowed with the rest; the next connection is a session's first.
    if (means !== 'reset') this.session = undefined;
    proxy.release(this.swallowed);
    this.swallowed = holes;
    this.half = means === 'half';

    this.means[means] += 1;
    const where = this.where(session);
    this.places[where] += 1;
    return { where, means, session };
  }

  /** It has got some of what it missed, and not all of it has even passed. */
  replaying(session) {
    return session.replayed < session.owed.size && this.client.received.some(({ id }) => session.owed.has(id));
  }

  where(session) {
    if (!session.told) return 'handshake';
    if (session.passed === 0) return 'first';
    return this.replaying(session) ? 'replay' : 'live';
  }

  /** Nothing is in its way any more. */
  end() {
    this.armed = undefined;
    this.half = false;
    this.proxy.refusing = false;
    this.proxy.release(this.swallowed);
  }
}

/** All that was to be tried was tried, by all of them together. */
export function tried(cutters) {
  const sums = (key) => {
    const all = {};
    for (const cutter of cutters) for (const [name, count] of Object.entries(cutter[key])) all[name] = (all[name] ?? 0) + count;
    return all;
  };
  const { handshake, ...places } = sums('places');
  for (const [name, count] of Object.entries({ ...places, ...sums('means') })) assert.ok(count > 0, `${name}: ${JSON.stringify(cutters.map(({ places, means }) => ({ places, means })))}`);
}
