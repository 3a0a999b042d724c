// Audits a log in a thread of its own: it takes a while, and other runs go on in this process meanwhile.
import fs from 'node:fs';
import readline from 'node:readline';
import { parentPort, workerData } from 'node:worker_threads';
import { audit } from './index.js';

// Line by line: the log of a soak is longer than a string may be.
const events = [];
for await (const line of readline.createInterface({ input: fs.createReadStream(workerData.file), crlfDelay: Infinity })) if (line) events.push(JSON.parse(line));
parentPort.postMessage(audit(events, workerData.how));
