// The chat page: a stock Socket.IO client, and the four lines that make it miss nothing.
'use strict';

const $ = (id) => document.getElementById(id);
const LINES = 500;

let name = localStorage.getItem('name') || '';
let token = '';
let target = 'all';
// Rooms this session is in.
const rooms = new Set();
// Rooms of which it has not been told yet where they start, since it connected or joined.
const awaited = new Map();
// Policy may allow `chat message` but not `publish` to everybody.
let plainOnly = false;

// The four lines.
const since = {};
const socket = io({ auth: (done) => done({ token: token || undefined, since }) });
socket.on('cursors', (notes) => {
  for (const room in notes) told(room, notes[room]);
  for (const room in notes) notes[room] && notes[room].offset ? (since[room] = notes[room].offset) : delete since[room];
});
socket.onAny((event, data, meta) => {
  if (event === 'cursors') return;
  if (meta && meta.room) since[meta.room] = meta.offset;
  message(event, data, meta || {});
});

// Connection

let attempts = 0;

socket.on('connect', () => {
  attempts += 1;
  state('connected');
  $('sid').textContent = socket.id;
  rooms.clear();
  awaited.clear();
  for (const room in since) awaited.set(room, 'back');
  if (attempts > 1) note('', 'connected again');
  showRooms();
});

socket.on('disconnect', (reason) => {
  state(socket.active ? 'connecting' : 'disconnected');
  $('sid').textContent = '–';
  // By request: a token was entered, or "connect" pressed.
  if (reason === 'io client disconnect') return showRooms();
  note('', socket.active ? `connection lost (${reason}); trying again` : `disconnected (${reason})`, 'bad');
  showRooms();
});

let lastRefusal = '';

socket.on('connect_error', (error) => {
  // What can pass is tried again by the client itself; what was refused is not.
  state(socket.active ? 'connecting' : 'refused');
  if (!socket.active && error.message !== lastRefusal) {
    lastRefusal = error.message;
    note('', `not let in: ${error.message}`, 'bad');
    if (/^(token_|anonymous_)/.test(error.message)) $('identity').open = true;
  }
});

$('again').addEventListener('click', () => reconnect());

function reconnect() {
  lastRefusal = '';
  state('connecting');
  socket.disconnect().connect();
}

function state(word) {
  $('state').textContent = word;
  $('state').dataset.state = word;
  $('again').hidden = socket.active || word === 'connected' || word === 'connecting';
  $('send').disabled = word !== 'connected';
  $('join').disabled = word !== 'connected';
}

// Rooms

// The gateway says where a room starts, and whether anything is missing before that.
function told(room, cursor) {
  const expected = awaited.get(room);
  awaited.delete(room);
  if (cursor === null) {
    if (rooms.delete(room) && expected !== 'leave') note(room, 'left');
    showRooms();
    return;
  }
  if (cursor.error) {
    rooms.delete(room);
    note(room, `not joined: ${cursor.error.message}`, 'bad');
    showRooms();
    return;
  }
  const known = since[room] !== undefined;
  if (!cursor.recovered && known) {
    note(room, 'some messages could not be caught up; it goes on from here', 'bad');
  } else if (expected === 'back') {
    note(room, 'caught up, nothing is missing', 'good');
  }
  if (!rooms.has(room)) {
    rooms.add(room);
    showRooms();
  }
}

$('join-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const room = $('room').value.trim();
  if (!room || !socket.connected) return;
  socket.emit('join', { room }, (answer) => {
    if (!answer.ok) return note(room, `not joined: ${answer.error.message}`, 'bad');
    rooms.add(room);
    note(room, 'joined');
    aim(room);
    $('room').value = '';
  });
});

function leave(room) {
  awaited.set(room, 'leave');
  socket.emit('leave', { room }, (answer) => {
    if (!answer.ok) return note(room, `not left: ${answer.error.message}`, 'bad');
    rooms.delete(room);
    delete since[room];
    note(room, 'left');
    if (target === room) aim('all');
    showRooms();
  });
}

// Rooms one can write to: those of sessions are for others to reach this one.
const writable = (room) => !room.startsWith('session:');

function aim(room) {
  target = room;
  $('message').placeholder = `Write to ${room}`;
  showRooms();
}

function showRooms() {
  const sorted = [...rooms].sort((a, b) => (b === 'all') - (a === 'all') || a.localeCompare(b));
  const shown = sorted.filter((room) => writable(room));
  $('rooms').replaceChildren(...shown.map((room) => {
    const item = element('li', room === target ? 'target' : '');
    item.dataset.room = room;
    const choose = element('button', 'name', room);
    choose.type = 'button';
    choose.title = `write to ${room}`;
    choose.setAttribute('aria-pressed', String(room === target));
    choose.addEventListener('click', () => { aim(room); $('message').focus(); });
    item.append(choose);
    if (room === 'all' || room.startsWith('user:')) {
      item.append(element('span', 'own', room === 'all' ? 'everybody' : 'you'));
    } else {
      const button = element('button', 'leave', 'leave');
      button.type = 'button';
      button.setAttribute('aria-label', `leave ${room}`);
      button.addEventListener('click', () => leave(room));
      item.append(button);
    }
    return item;
  }));
  const options = shown.includes(target) ? shown : [...shown, target];
  $('target').replaceChildren(...options.map((room) => {
    const option = element('option', '', room);
    option.selected = room === target;
    return option;
  }));
}

$('target').addEventListener('change', () => aim($('target').value));

// Writing

$('write').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('message').value;
  if (!text.trim() || !socket.connected) return;
  $('message').value = '';
  send(target, text);
});

function send(room, text) {
  const failed = (answer) => {
    $('message').value = $('message').value || text;
    note(room, `not sent: ${answer.error.message} (${answer.error.code})`, 'bad');
  };
  if (room === 'all' && plainOnly) {
    // The demo's event: policy says where it goes and who it is from.
    socket.emit('chat message', text, (answer) => answer.ok || failed(answer));
    return;
  }
  const data = `${name || socket.id}: ${text}`;
  socket.emit('publish', { room, event: 'chat message', data }, (answer) => {
    if (answer.ok) return;
    if (room === 'all' && answer.error.code === 'forbidden') {
      plainOnly = true;
      send(room, text);
      return;
    }
    failed(answer);
  });
}

$('name').value = name;
$('identify').addEventListener('submit', (event) => {
  event.preventDefault();
  name = $('name').value.trim();
  localStorage.setItem('name', name);
  if ($('token').value === token && socket.connected) return;
  token = $('token').value;
  // Another identity has other rooms; its cursors are its own.
  for (const room in since) delete since[room];
  reconnect();
});

// The log. Everything goes in as text, never as HTML.

function message(event, data, meta) {
  const line = element('p');
  if (meta.room) line.append(element('span', 'room', meta.room), ' ');
  if (event !== 'chat message') line.append(element('span', 'event', event), ' ');
  let mine = false;
  const said = typeof data === 'string' && /^([^\s:][^:\n]{0,79}): ([^]*)$/.exec(data);
  if (said) {
    mine = said[1] === socket.id || (name !== '' && said[1] === name);
    line.append(element('span', 'who', `${said[1]}: `), element('span', 'what', said[2]));
  } else if (typeof data === 'string') {
    line.append(element('span', 'what', data));
  } else if (data instanceof ArrayBuffer || ArrayBuffer.isView(data)) {
    line.append(element('span', 'what json', `${data.byteLength} bytes`));
  } else {
    line.append(element('span', 'what json', JSON.stringify(data)));
  }
  add(line, meta.ts, mine ? 'mine' : '');
}

function note(room, text, kind) {
  const line = element('p');
  if (room) line.append(element('span', 'room', room), ' ');
  line.append(element('span', 'what', text));
  add(line, Date.now(), `note ${kind || ''}`);
}

function add(line, ms, kind) {
  const log = $('log');
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  const item = element('li', kind);
  const when = new Date(ms || Date.now());
  const time = element('time', '', when.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
  time.dateTime = when.toISOString();
  time.title = when.toLocaleString();
  item.append(line, ' ', time);
  log.append(item);
  while (log.childElementCount > LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

state('connecting');
showRooms();
