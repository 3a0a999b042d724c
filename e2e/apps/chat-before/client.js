// What runs in the browser. `ask` is a `fetch` to the application that brings the login cookie along; a browser needs
// no `headers`.
import { io } from 'socket.io-client';

export class Chat {
  constructor({ push, headers, hear }) {
    const rooms = new Set();
    const socket = io(push, { extraHeaders: headers, forceNew: true });
    for (const event of ['said', 'typing', 'order', 'news']) socket.on(event, (data) => hear(event, data));
    socket.on('connect', () => { for (const room of rooms) socket.emit('enter', room, () => {}); });
    Object.assign(this, { rooms, socket });
  }

  async enter(room) {
    const answer = await this.socket.emitWithAck('enter', room);
    if (answer.ok) this.rooms.add(room);
    return answer;
  }

  say(room, text) {
    return this.socket.emitWithAck('say', room, text);
  }

  typing(room) {
    this.socket.emit('typing', room);
  }
}
