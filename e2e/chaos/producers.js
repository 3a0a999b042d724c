// Keyed producers that number what they send: one for each room, one message after the other, each repeated with its key
// until its outcome is known.
import { randomUUID } from 'node:crypto';

/** Milliseconds that a producer waits for one answer. */
const PATIENCE = 5_000;
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** What an answer says of the message: `accepted`, `refused`, or `unknown`. */
async function outcome(url, message) {
  try {
    const answer = await fetch(`${url}/v1/messages`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(message),
      signal: AbortSignal.timeout(PATIENCE),
    });
    const body = await answer.json();
    if (answer.status === 202) return { outcome: 'accepted', id: body.id, offset: body.rooms[0].offset, status: 202 };
    const certain = body.outcome === 'refused' || (answer.status < 500 && body.outcome !== 'unknown');
    return { outcome: certain ? 'refused' : 'unknown', status: answer.status };
  } catch (error) {
    // Nobody was there to take it, or nobody knows.
    return { outcome: error.cause?.code === 'ECONNREFUSED' ? 'refused' : 'unknown', status: 0 };
  }
}

export class Producers {
  #stopped = false;
  #flows = [];

  /**
   * @param {import('./log.js').Log} log
   * @param {() => { name: string, ingest: string }} ingest whom to send to; asked for each try
   * @param {{ rooms: string[], rate: number, bytes?: number, patient?: boolean, retry?: number }} what messages per second
   *   and room; `patient`: refusals for want of room are repeated, too; `retry`: milliseconds between tries
   */
  constructor(log, ingest, { rooms, rate, bytes = 20, patient = true, retry = 100 }) {
    this.log = log;
    this.ingest = ingest;
    this.patient = patient;
    this.retry = retry;
    this.padding = 'x'.repeat(bytes);
    /** Messages per second and room; may be changed as it runs. */
    this.rate = rate;
    /** How often one was refused for want of room. */
    this.turnedAway = 0;
    this.counts = { accepted: 0, refused: 0, unknown: 0 };
    this.#flows = rooms.map((room, n) => this.#flow(room, n / rooms.length));
  }

  async #flow(room, phase) {
    await pause((phase * 1000) / this.rate);
    let due = performance.now();
    for (let n = 1; !this.#stopped; n += 1) {
      await this.#send(room, n);
      due = Math.max(due + 1000 / this.rate, performance.now() - 1000);
      await pause(Math.max(0, due - performance.now()));
    }
  }

  async #send(room, n) {
    const message = { to: { room }, event: 'tick', data: { n, padding: this.padding }, idempotency_key: randomUUID() };
    const sent = this.log.add('sent', { room, n, outcome: 'unknown' });
    let doubt = false;
    for (let tries = 1; ; tries += 1) {
      const { name, ingest } = this.ingest();
      const tried = await outcome(ingest, message);
      if (tried.outcome === 'unknown') doubt = true;
      if (tried.status === 429) this.turnedAway += 1;
      const final = tried.outcome === 'accepted' || (tried.outcome === 'refused' && !doubt && (tried.status === 422 || tried.status === 400 || (tried.status === 429 && !this.patient)));
      if (final || this.#stopped) {
        sent.outcome = tried.outcome === 'refused' && doubt ? 'unknown' : tried.outcome;
        Object.assign(sent, { by: name, tries, id: tried.id, offset: tried.offset, answered: this.log.now });
        this.counts[sent.outcome] += 1;
        return;
      }
      await pause(this.retry);
    }
  }

  /** Ends when the last one is answered. */
  async stop() {
    this.#stopped = true;
    await Promise.all(this.#flows);
  }
}
