// The two calls this chat makes. Sending again with the same key is safe, so it does until it knows.
const RETRIES = 5;

export function carillon(ingest, key) {
  const ask = (path, options = {}) =>
    fetch(`${ingest}${path}`, { ...options, headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...options.headers } });

  async function send(to, event, data, id = crypto.randomUUID()) {
    for (let tried = 1; ; tried += 1) {
      const answer = await ask('/v1/messages', { method: 'POST', body: JSON.stringify({ to, event, data }), headers: { 'idempotency-key': id } });
      if (answer.status === 202) return answer.json();
      const { detail } = await answer.json();
      if ((answer.status !== 429 && answer.status !== 503) || tried === RETRIES) throw new Error(`${event} was not sent: ${detail}`);
      await new Promise((resolve) => { setTimeout(resolve, 1000 * answer.headers.get('retry-after')); });
    }
  }

  async function who(room) {
    const answer = await ask(`/v1/rooms/${encodeURIComponent(room)}/presence`);
    return (await answer.json()).users;
  }

  return { send, who };
}
