// Audits a log in a thread of its own: it takes a while, and other runs go on in this process meanwhile.
import fs from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { audit } from './index.js';

const events = fs.readFileSync(workerData.file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
parentPort.postMessage(audit(events, workerData.how));
