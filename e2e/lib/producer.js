// Publishes over HTTP, and repeats with the same key until the outcome is known.
import { randomUUID } from 'node:crypto';
import { until } from './until.js';

export async function post(url, body, headers = {}) {
  const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const answer = await fetch(`${url}/v1/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: text,
  });
  const type = answer.headers.get('content-type') ?? '';
  return { status: answer.status, type, retryAfter: answer.headers.get('retry-after'), body: await answer.json() };
}

export class Producer {
  /** @param {string} url @param {Record<string, string>} [headers] */
  constructor(url, headers = {}) {
    this.url = url;
    this.headers = headers;
    /** @type {{ id: string, room: string, offset: string }[]} */
    this.accepted = [];
  }

  /** Sends one message and does not rest before it is known to be kept. */
  async send(message) {
    const key = randomUUID();
    const answer = await until('the message is kept', async () => {
      const tried = await post(this.url, { ...message, idempotency_key: key }, this.headers);
      if (tried.status >= 400 && tried.status < 500 && tried.status !== 429) {
        throw new Error(`refused: ${JSON.stringify(tried.body)}`);
      }
      return tried.status === 202 && tried.body;
    });
    this.keep(answer);
    return answer;
  }

  /** Sends a batch; all or nothing per partition, so it is repeated whole. */
  async batch(messages) {
    const keyed = messages.map((message) => ({ ...message, idempotency_key: randomUUID() }));
    const answers = await until('the batch is kept', async () => {
      const tried = await post(this.url, keyed, this.headers);
      if (tried.status !== 202) throw new Error(`${tried.status} ${JSON.stringify(tried.body)}`);
      return tried.body;
    });
    answers.forEach((answer) => this.keep(answer));
    return answers;
  }

  /**
   * Sends messages by the clock, in order, until it is stopped; what is late is made up for.
   * @param {number} rate messages per second
   * @param {(number: number) => object} message
   * @returns {{ stop: () => Promise<{ sent: number, seconds: number }> }}
   */
  flow(rate, message) {
    const began = performance.now();
    const seconds = () => (performance.now() - began) / 1000;
    let stopped = false;
    let sent = 0;
    const flowing = (async () => {
      while (!stopped) {
        const due = await until('the next messages are due', () => Math.floor(seconds() * rate) - sent);
        await this.batch(Array.from({ length: Math.min(due, 100) }, (_, n) => message(sent + n)));
        sent += Math.min(due, 100);
      }
      return { sent, seconds: seconds() };
    })();
    // Whoever stops it is told.
    flowing.catch(() => {});
    return {
      stop: () => {
        stopped = true;
        return flowing;
      },
    };
  }

  keep({ id, rooms }) {
    for (const { room, offset } of rooms) this.accepted.push({ id, room, offset });
  }
}
