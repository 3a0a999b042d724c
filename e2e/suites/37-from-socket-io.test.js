// Coming from Socket.IO with the Redis adapter: the same people do the same things in the same chat, before and after,
// and what the page about it shows is what these applications are.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test, { after } from 'node:test';
import { Person, chatAfter, chatBefore } from '../lib/chat.js';
import { page } from '../lib/guide.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';

const children = [];
const people = [];
after(async () => {
  people.forEach((person) => person.leave());
  for (const child of children.reverse()) await child.kill();
});
const come = async (...what) => {
  const person = await Person.at(...what);
  people.push(person);
  return person;
};

for (const [name, start] of Object.entries({ 'Socket.IO with the Redis adapter': chatBefore, Carillon: chatAfter })) {
  test(`the chat on ${name}`, async (chatting) => {
    const redis = await Redis.start();
    children.push({ kill: () => redis.stop() });
    const chat = await start(redis, children);
    const ann = await come(chat, 0, 'ann', { staff: true });
    const ben = await come(chat, 1, 'ben');
    const cleo = await come(chat, 1, 'cleo', { staff: true });
    const all = [ann, ben, cleo];
    await until('all are connected', () => all.every(({ socket }) => socket.connected));

    await chatting.test('nobody is let in who is not logged in', async () => {
      const stranger = await come(chat, 0, 'stranger', { login: false });
      const error = await new Promise((resolve) => { stranger.socket.once('connect_error', resolve); });
      assert.match(error.message, /not logged in|anonymous_refused/);
      assert.equal(stranger.socket.active, false);
    });

    await chatting.test('who is in a room hears what is said there, at whichever process', async () => {
      for (const person of all) assert.equal((await person.chat.enter('tower')).ok, true);
      assert.equal((await ben.chat.say('tower', 'grüße 🔔')).ok, true);
      for (const person of all) assert.deepEqual(await person.hears('said', () => true), { from: 'ben', room: 'tower', text: 'grüße 🔔' });
    });

    await chatting.test('some rooms are not for everybody', async () => {
      assert.equal((await ann.chat.enter('staff')).ok, true);
      assert.equal((await cleo.chat.enter('staff')).ok, true);
      assert.equal((await ben.chat.enter('staff')).ok, false);
      assert.equal((await ben.chat.say('staff', 'let me in')).ok, false);
      assert.equal((await ann.chat.say('staff', 'among us')).ok, true);
      await cleo.hears('said', ({ text }) => text === 'among us');
      // What comes after it has come, and it has not.
      await ann.chat.say('tower', 'to all');
      await ben.hears('said', ({ text }) => text === 'to all');
      assert.deepEqual(ben.of('said').filter(({ room }) => room === 'staff'), []);
    });

    await chatting.test('others see who is typing', async () => {
      ann.chat.typing('tower');
      for (const person of [ben, cleo]) assert.deepEqual(await person.hears('typing', () => true), { who: 'ann', room: 'tower' });
      assert.deepEqual(ann.of('typing'), []);
    });

    await chatting.test('one user is reached by whichever process has a reason', async () => {
      await ann.ask('/order', { user: 'ben', number: 17 });
      assert.deepEqual(await ben.hears('order', () => true), { number: 17 });
      assert.deepEqual(cleo.of('order'), []);
    });

    await chatting.test('a worker without a web server reaches all', async () => {
      await chat.news('the bells ring');
      for (const person of all) assert.deepEqual(await person.hears('news', () => true), { text: 'the bells ring' });
    });

    await chatting.test('it is known who is in a room', async () => {
      const are = (room, ...users) => until(`in ${room} are ${users}`, async () => (await ben.ask(`/who/${room}`)).join() === users.join());
      await are('tower', 'ann', 'ben', 'cleo');
      await are('staff', 'ann', 'cleo');
    });

    await chatting.test('who was away is back in its rooms; what was said meanwhile', async () => {
      const before = ben.socket.id;
      ben.socket.io.engine.close();
      assert.equal((await ann.chat.say('tower', 'meanwhile')).ok, true);
      await until('ben is back', () => ben.socket.connected && ben.socket.id !== before);
      await until('and hears', async () => {
        await ann.chat.say('tower', 'hello again');
        return ben.of('said').some(({ text }) => text === 'hello again');
      });
      const missed = !ben.of('said').some(({ text }) => text === 'meanwhile');
      assert.equal(missed, name !== 'Carillon', 'this is the difference');
    });
  });
}

test('what the page shows is in the applications', () => {
  const apps = path.resolve(import.meta.dirname, '../apps');
  const trimmed = (text) => text.split('\n').map((line) => line.trim()).filter(Boolean);
  const shown = [...page('from-socket-io.md').matchAll(/^`e2e\/apps\/([^`]+)`:\n\n```\w+\n(.*?)^```$/gms)];
  assert.ok(shown.length >= 12, `${shown.length} blocks name their file`);
  for (const [, file, block] of shown) {
    const code = trimmed(fs.readFileSync(path.join(apps, file), 'utf8'));
    // `…` stands for lines that are left out.
    for (const part of block.split(/^\s*…\s*$/m).map(trimmed)) {
      const there = code.some((_, start) => part.every((line, n) => code[start + n] === line));
      assert.ok(there, `${file} has not:\n${part.join('\n')}`);
    }
  }
});
