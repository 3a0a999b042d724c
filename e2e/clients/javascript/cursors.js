// The client guide's lines, run: `cursors.js URL TOKEN TRANSPORTS ROOMS LIBRARY`. lib/cursors.js puts them where the marker is.
import { createInterface } from 'node:readline';

const [url, token, ways, names, library] = process.argv.slice(2);
const [transports, rooms] = [JSON.parse(ways), JSON.parse(names)];
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const { default: stock } = await import(library);
// The stock client, impatient.
const io = (to, options) => stock(to, { forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200, timeout: 2_000, ...(transports && { transports }), ...options });

// THE LINES

socket.on('cursors', (told) => say({ cursors: told }));
socket.on('price', (data, meta) => say({ heard: meta }));
socket.on('disconnect', () => say({ disconnected: true }));
socket.on('connect', () => {
  say({ connected: true });
  for (const room of rooms) if (!since[room]) socket.emit('join', { room }, () => {});
});
createInterface({ input: process.stdin }).on('line', (line) => {
  const { leave } = JSON.parse(line);
  if (leave) socket.emit('leave', { room: leave }, () => {});
  else say({ since });
}).on('close', () => socket.close());
