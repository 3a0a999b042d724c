// What runs in the browser. `ask` is a `fetch` to the application that brings the login cookie along.
import { io } from 'socket.io-client';

export class Chat {
  constructor({ push, user, ask, hear }) {
    const since = {};
    const socket = io(push, { auth: async (cb) => cb({ token: await ask('/token').catch(() => ''), since }), forceNew: true });
    socket.on('cursors', (rooms) => { for (const r in rooms) rooms[r] ? since[r] = rooms[r].offset : delete since[r]; });
    socket.onAny((event, data, meta) => { if (meta?.room) since[meta.room] = meta.offset; });
    for (const event of ['said', 'order', 'news']) socket.on(event, (data) => hear(event, data));
    socket.on('typing', (data) => { if (data.who !== user) hear('typing', data); });
    socket.on('token_expired', async () => socket.emit('refresh', { token: await ask('/token') }));
    Object.assign(this, { user, ask, socket });
  }

  async enter(room) {
    const answer = await this.socket.emitWithAck('join', { room });
    if (answer.ok) await this.socket.emitWithAck('join', { room: `typing:${room}` });
    return answer;
  }

  say(room, text) {
    return this.ask('/say', { room, text, id: crypto.randomUUID() });
  }

  typing(room) {
    this.socket.emit('publish', { room: `typing:${room}`, event: 'typing', data: { who: this.user, room } });
  }
}
