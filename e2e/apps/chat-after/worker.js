// A job that is no web server and wants to reach everybody: `worker.js INGEST KEY TEXT`.
import { carillon } from './carillon.js';

const [ingest, key, text] = process.argv.slice(2);
await carillon(ingest, key).send('all', 'news', { text });
