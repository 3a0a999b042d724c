// A stock socket.io-client of version 4 or 2 that does what its standard input says: `stock.js VERSION URL OPTIONS`.
// The lines are those of lib/stock.js.
import { createInterface } from 'node:readline';

const [version, url, text] = process.argv.slice(2);
const { io } = version === '2' ? { io: (await import('socket.io-client-2')).default } : await import('socket.io-client');
const { transports, auth = {}, events } = JSON.parse(text);

const plain = (value) => {
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return { $bytes: Buffer.from(value).toString('base64') };
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
  return value;
};
const real = (name, value) => (value?.$bytes === undefined ? value : Buffer.from(value.$bytes, 'base64'));
const say = (line) => process.stdout.write(`${JSON.stringify(plain(line))}\n`);

// Clients of version 2 know no `auth`.
const query = Object.fromEntries(Object.entries(auth).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]));
const socket = io(url, { forceNew: true, ...(transports && { transports }), ...(version === '2' ? { query } : { auth }) });
for (const event of events) {
  socket.on(event, (...args) => {
    const acknowledge = typeof args.at(-1) === 'function' ? args.pop() : () => {};
    say({ event, args });
    acknowledge();
  });
}
socket.on('connect', () => say({ connected: socket.id }));
socket.on('disconnect', (reason) => say({ disconnected: reason }));
if (version === '2') socket.on('error', (refusal) => say({ refused: refusal }));
else socket.on('connect_error', ({ message }) => say({ refused: message }));

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const { ask, event, data } = JSON.parse(line, real);
  socket.emit(event, data, (answer) => say({ ask, answer }));
});
lines.on('close', () => socket.close());
