// A job that is no web server and wants to reach everybody: `worker.js REDIS TEXT`.
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';

const [redis, text] = process.argv.slice(2);
const client = await createClient({ url: redis }).connect();
const emitter = new Emitter(client);
emitter.emit('news', { text });
await client.close();
