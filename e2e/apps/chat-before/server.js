// A chat as many run it: Express, Socket.IO with the Redis adapter, any number of these processes on one Redis.
// `server.js PORT REDIS`
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const [port, redis] = process.argv.slice(2);
const client = createClient({ url: redis });
const subscriber = client.duplicate();
await Promise.all([client.connect(), subscriber.connect()]);

const app = express();
const login = session({ store: new RedisStore({ client }), secret: 'chat', resave: false, saveUninitialized: false });
app.use(login, express.json());
const server = createServer(app);
const io = new Server(server, { adapter: createAdapter(client, subscriber) });

const mayEnter = (user, room) => room !== 'staff' || user.staff;

io.engine.use(login);
io.use((socket, next) => {
  const { user } = socket.request.session;
  if (!user) return next(new Error('not logged in'));
  socket.data.user = user;
  return next();
});

io.on('connection', (socket) => {
  const { user } = socket.data;
  socket.join(`user:${user.id}`);
  socket.on('enter', (room, ack) => {
    if (!mayEnter(user, room)) return ack({ ok: false });
    socket.join(room);
    return ack({ ok: true });
  });
  socket.on('say', (room, text, ack) => {
    if (!socket.rooms.has(room)) return ack({ ok: false });
    io.to(room).emit('said', { from: user.id, room, text });
    return ack({ ok: true });
  });
  socket.on('typing', (room) => {
    socket.to(room).volatile.emit('typing', { who: user.id, room });
  });
});

app.post('/login', (request, response) => {
  request.session.user = request.body;
  response.json({ ok: true });
});
app.use((request, response, next) => (request.session.user ? next() : response.status(401).json({ ok: false })));
app.post('/order', (request, response) => {
  const { user, number } = request.body;
  io.to(`user:${user}`).emit('order', { number });
  response.json({ ok: true });
});
app.get('/who/:room', async (request, response) => {
  const sockets = await io.in(request.params.room).fetchSockets();
  const users = new Set(sockets.map((socket) => socket.data.user.id));
  response.json([...users].sort());
});

server.listen(Number(port), '127.0.0.1', () => console.log('listening'));
