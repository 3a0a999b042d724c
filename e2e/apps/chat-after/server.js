// The same chat on Carillon. It holds no connection any more: it logs people in, decides, and sends.
// `server.js PORT REDIS INGEST KEY SECRET`
import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import jwt from 'jsonwebtoken';
import { createClient } from 'redis';
import { carillon } from './carillon.js';

const [port, redis, ingest, key, secret] = process.argv.slice(2);
const client = createClient({ url: redis });
await client.connect();
const { send, who } = carillon(ingest, key);

const app = express();
const login = session({ store: new RedisStore({ client }), secret: 'chat', resave: false, saveUninitialized: false });
app.use(login, express.json());

const mayEnter = (user, room) => room !== 'staff' || user.staff;

app.post('/login', (request, response) => {
  request.session.user = request.body;
  response.json({ ok: true });
});
app.use((request, response, next) => (request.session.user ? next() : response.status(401).json({ ok: false })));
app.get('/token', (request, response) => {
  const { user } = request.session;
  const rooms = ['staff'].filter((room) => mayEnter(user, room));
  response.json(jwt.sign({ sub: user.id, rooms }, secret, { expiresIn: '10m' }));
});
app.post('/say', async (request, response) => {
  const { user } = request.session;
  const { room, text, id } = request.body;
  if (!mayEnter(user, room)) return response.json({ ok: false });
  await send({ room }, 'said', { from: user.id, room, text }, id);
  return response.json({ ok: true });
});
app.post('/order', async (request, response) => {
  const { user, number } = request.body;
  await send({ user }, 'order', { number }, `order ${number}`);
  response.json({ ok: true });
});
app.get('/who/:room', async (request, response) => {
  response.json(await who(request.params.room));
});

app.listen(Number(port), '127.0.0.1', () => console.log('listening'));
