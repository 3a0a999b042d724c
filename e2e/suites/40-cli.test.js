// The command line, as a user types it, against real processes on a real Redis.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { canary } from '../lib/canaries.js';
import { Shell, sh } from '../lib/cli.js';
import { token } from '../lib/jwt.js';
import { Listener } from '../lib/listener.js';
import { freePort } from '../lib/ports.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { until } from '../lib/until.js';
import { entry } from '../lib/wire.js';

const secret = canary('token-key');
const slowKey = canary('producer-key', 'slow');
const children = [];
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-cli-'));
let redis;
let settings;
let env;
let gateway;
let gatewayPort;
let ingest;
const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};
const run = (line, options = {}) => sh(line, { cwd: folder, ...options, env: { ...env, ...options.env } });
const ok = (line, options) => {
  const done = run(line, options);
  assert.equal(done.status, 0, `${line}\n${done.stdout}${done.stderr}`);
  return done;
};
const json = (text) => text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
const follow = (line, more = {}, service) => {
  const shell = new Shell(`exec ${line}`, { cwd: folder, env: { ...env, ...more }, service });
  children.push({ kill: () => shell.stop('SIGKILL') });
  return shell;
};

before(async () => {
  redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  fs.writeFileSync(path.join(folder, 'policy.yaml'), [
    'anonymous: { sessions: true, producers: true }',
    'rooms:',
    '- { match: short, join: anyone, history: { size: 5 } }',
    '- { match: closed, join: nobody }',
    '- { match: "*", join: anyone, history: { size: 10000, bytes: 64MiB } }',
    'producers:',
    `- { name: examples, key_sha256: "${createHash('sha256').update('secret').digest('hex')}", rooms: ["*"], rate: 1000/s }`,
    `- { name: slow, key_sha256: "${createHash('sha256').update(slowKey).digest('hex')}", rooms: ["*"], rate: 5/s }`,
  ].join('\n'));
  fs.writeFileSync(path.join(folder, 'avatar.png'), Buffer.from([0x89, 0x50, 0x4e, 0x47, 0xff, 0x00]));
  settings = { CARILLON_REDIS__URL: redis.url, CARILLON_POLICY__FILE: path.join(folder, 'policy.yaml'), CARILLON_IDENTITY__HS256_SECRET: secret };
  gatewayPort = await freePort();
  gateway = await start('gateway', { CARILLON_GATEWAY__LISTEN: `127.0.0.1:${gatewayPort}` });
  await start('dispatcher');
  ingest = await start('ingest');
  env = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_BROKER__PARTITIONS: '8',
    CARILLON_CLIENT__INGEST: ingest.ingest,
    CARILLON_CLIENT__GATEWAYS: `http://127.0.0.1:${gatewayPort}`,
    TOKEN: token(secret, { sub: '42' }),
  };
});
after(async () => { for (const child of children.reverse()) await child.kill(); fs.rmSync(folder, { recursive: true, force: true }); });

test('push sends an argument, a file, and lines', async () => {
  const listener = new Listener(`http://127.0.0.1:${gatewayPort}`, { rooms: ['lobby'] });
  await until('settled', () => listener.settled);
  assert.match(ok(`carillon push --room lobby --event price '{"eur": 1.00}'`).stdout, /^accepted \S+ in lobby \S+\n$/);
  ok('carillon push --room lobby --event avatar --file avatar.png');
  const lines = ok(`printf '1\\n"two"\\nthree\\n' | carillon push --room lobby --event line --output json`);
  await until('all came', () => listener.of('lobby').length === 5);
  const got = listener.of('lobby');
  assert.deepEqual(got.map(({ event }) => event), ['price', 'avatar', 'line', 'line', 'line']);
  assert.deepEqual(got[1].data, fs.readFileSync(path.join(folder, 'avatar.png')));
  assert.deepEqual(got.slice(2).map(({ data }) => data), [1, 'two', 'three']);
  assert.deepEqual(json(lines.stdout).map(({ line, outcome, id }) => [line, outcome, id]), got.slice(2).map(({ id }, n) => [n + 1, 'accepted', id]));
  listener.close();
});

test('push keeps its rate, and the same name sends nothing twice', () => {
  const began = Date.now();
  const line = 'seq 60 | carillon push --room rate --event tick --rate 40/s --idempotency-key once --output json';
  const first = ok(line);
  assert.ok(Date.now() - began >= 1_400, `${Date.now() - began} ms`);
  assert.match(first.stderr, /60 accepted/);
  assert.deepEqual(json(ok(line).stdout), json(first.stdout));
});

test('push waits where it is told to, and says which line is wrong', () => {
  const slow = ok('seq 12 | carillon push --all --event tick --rate 20/s --output json', { env: { CARILLON_CLIENT__KEY: slowKey } });
  assert.equal(json(slow.stdout).filter(({ outcome }) => outcome === 'accepted').length, 12);
  const wrong = run(`(echo 1; head -c 70000 /dev/zero | tr '\\0' x; echo; echo 3) | carillon push --all --output json`);
  assert.equal(wrong.status, 1, wrong.stderr);
  assert.deepEqual(json(wrong.stdout).map(({ outcome }) => outcome), ['accepted', 'refused', 'accepted']);
  assert.match(wrong.stderr, /2 accepted, 1 refused/);
  assert.match(run('carillon push --all x --key nonsense').stderr, /CARILLON_CLIENT__KEY/);
  assert.equal(run('carillon push --all x --url http://127.0.0.1:1 --patience 1s').status, 1);
  assert.equal(run('carillon push x').status, 64);
});

test('push sends each line once, in order, over a Redis that is killed and restarted', async () => {
  const tail = follow('carillon tail --rooms restart --output json');
  await until('it is in the room', () => run('carillon rooms restart --output json').stdout.includes('"alive":true'));
  const ticks = () => tail.lines.filter(({ event }) => event === 'tick').map(({ data }) => data);
  const push = follow('bash -c "seq 200 | carillon push --room restart --event tick --rate 100/s"');
  await until('it flows', () => ticks().length > 50);
  await redis.child.kill();
  await redis.run();
  assert.equal((await push.ended).code, 0, push.stderr);
  assert.match(push.stderr, /200 accepted/);
  await until('the last one came', () => ticks().includes(200));
  assert.deepEqual(ticks(), Array.from({ length: 200 }, (_, n) => n + 1));
  await tail.stop();
});

test('push shows its progress on a terminal, and nowhere else', () => {
  const typed = 'seq 30 | carillon push --all --event tick --rate 20/s';
  const terminal = ok(`script -qec "${typed}" /dev/null`, { env: { TERM: 'xterm-256color' } }).stdout;
  assert.match(terminal, /\d+ sent/);
  assert.match(terminal, /\x1b\[32m30 accepted/);
  const plain = ok(`script -qec "${typed}" /dev/null`, { env: { TERM: 'xterm-256color', NO_COLOR: '1' } }).stdout;
  assert.doesNotMatch(plain, /\x1b\[[0-9;]*m/);
  const piped = ok(typed);
  assert.doesNotMatch(piped.stdout + piped.stderr, /\x1b|\d+ sent/);
});

test('tail loses nothing and shows nothing twice over a gateway that is killed and replaced, and over its own end', async () => {
  const COUNT = 600;
  const cursors = path.join(folder, 'tail.json');
  const listen = () => follow(`carillon tail --rooms flow --output json --cursor-file ${cursors}`);
  let tail = listen();
  const lines = [];
  const ticks = () => [...lines, ...tail.lines].filter(({ event }) => event === 'tick').map(({ data }) => data);
  await until('it is in the room', async () => run('carillon rooms flow --output json').stdout.includes('"alive":true'));
  const push = follow(`bash -c "seq ${COUNT} | carillon push --room flow --event tick --rate 150/s"`);
  await until('it flows', () => ticks().length > 50);
  await gateway.kill();
  gateway = await start('gateway', { CARILLON_GATEWAY__LISTEN: `127.0.0.1:${gatewayPort}` });
  await until('it flows again', () => ticks().length > 300);
  assert.deepEqual(await tail.stop('SIGTERM'), { code: 0, signal: null });
  lines.push(...tail.lines);
  tail = listen();
  assert.equal((await push.ended).code, 0, push.stderr);
  await until('the last one came', () => ticks().includes(COUNT));
  assert.deepEqual(await tail.stop(), { code: 0, signal: null });
  assert.deepEqual(ticks(), Array.from({ length: COUNT }, (_, n) => n + 1));
  assert.deepEqual([...lines, ...tail.lines].filter(({ note }) => note), []);
});

test('tail says what was not recovered, and why it may not', async () => {
  const [first] = json(ok('carillon push --room short 0 --output json').stdout);
  ok('seq 12 | carillon push --room short');
  const line = `carillon tail --since short=${first.rooms[0].offset} --count 5`;
  const [note, ...rest] = json(ok(`${line} --output json`).stdout);
  assert.equal(note.note, 'not_recovered');
  assert.equal(note.room, 'short');
  assert.deepEqual(rest.map(({ data }) => data), [8, 9, 10, 11, 12]);
  assert.match(ok(line).stderr, /short: something between .* was not recovered/);
  const closed = run('carillon tail --rooms closed');
  assert.equal(closed.status, 1);
  assert.match(closed.stderr, /forbidden.*policy explain closed/);
  const stranger = run('carillon tail --token nonsense');
  assert.equal(stranger.status, 1);
  assert.match(stranger.stderr, /token_invalid/);
  assert.equal(run('carillon tail --since lobby').status, 64);
});

test('tail shows and counts the events it is asked for, whatever else comes', () => {
  for (const event of ['before', 'wanted', 'after', 'wanted']) ok(`carillon push --room chosen --event ${event} '"${event}"'`);
  const shown = json(ok('carillon tail --rooms chosen --rewind 4 --event wanted --count 2 --output json').stdout);
  assert.deepEqual(shown.map(({ event }) => event), ['wanted', 'wanted']);
});

test('a reader that goes ends tail, and that is no failure', async () => {
  const shell = new Shell('carillon tail --rooms short --rewind 5 | head -n 1', { cwd: folder, env });
  children.push({ kill: () => shell.stop('SIGKILL') });
  await until('tail finds out by what comes next', () => {
    run('carillon push --room short again');
    return shell.end;
  });
  assert.deepEqual(shell.end, { code: 0, signal: null }, shell.stderr);
  assert.equal(shell.stdout.trim().split('\n').length, 1);
});

test('rooms and gateways say who is where', async () => {
  const tail = follow('carillon tail --rooms who,where');
  const held = () => json(run('carillon rooms who nowhere --output json').stdout);
  const list = () => json(run('carillon gateways --output json').stdout);
  // The one that was killed before counts as alive until its key runs out.
  const [one] = await until('the killed gateway is gone', () => list().length === 1 && list());
  await until('it is held', () => held()[0]?.gateways.some(({ alive }) => alive));
  const [who, nowhere] = held();
  assert.equal(who.gateways.filter(({ alive }) => alive).length, 1);
  assert.deepEqual(nowhere.gateways, []);
  assert.equal(one.incarnation, who.gateways.find(({ alive }) => alive).gateway);
  assert.equal(one.capacity, 20_000);
  await until('its sessions are reported', () => list()[0].sessions === 1);
  assert.match(ok('carillon gateways').stdout, new RegExp(`${one.incarnation}.*1 of 20000.*serving`));
  assert.match(ok('carillon rooms who').stdout, new RegExp(`${one.incarnation} at .*1 sessions`));
  const listed = new Set();
  for (let after = ''; after !== undefined;) {
    const page = json(ok(`carillon rooms --limit 1 --output json ${after}`).stdout);
    page.filter(({ room }) => room).forEach(({ room }) => listed.add(room));
    const next = page.at(-1)?.next;
    after = next && `--after ${next}`;
  }
  for (const room of ['who', 'where', 'all']) assert.ok(listed.has(room), [...listed].join());
  await tail.stop();
});

test('dlq lists, replays and drops, as text and JSON', async () => {
  const queue = redis.cli('--scan', '--pattern', 'carillon:q:*').trim().split('\n')[0];
  redis.cli('XADD', queue, '*', 'e', 'not protobuf');
  redis.cli('XADD', queue, '*', 'e', 'nor this');
  const letters = await until('they are dead', () => { const list = json(run('carillon dlq list --output json').stdout); return list.length === 2 && list; }, 60_000);
  assert.match(ok('carillon dlq list').stdout, new RegExp(`^${letters[0].id} \\(unreadable\\)`));
  assert.deepEqual(json(ok(`carillon dlq drop ${letters[0].id} --output json`).stdout), [{ dropped: letters[0].id }]);
  const replay = run(`carillon dlq replay --redis.url ${redis.url} ${letters[1].id}`);
  assert.equal(replay.status, 1);
  assert.match(replay.stderr, /can't be read/);
  assert.equal(run('carillon dlq drop nonsense').status, 64);
  ok(`carillon dlq drop ${letters[1].id}`);
});

test('dlq drops all of a kind: by reason, by age, of a partition, or all there are', () => {
  const letters = { 2: ['not UTF-8: x', 'too large'], 3: ['not UTF-8: y'] };
  const queues = redis.cli('--scan', '--pattern', 'carillon:q:*').trim().split('\n');
  const put = (id = '*') => {
    for (const [place, reasons] of Object.entries(letters)) {
      for (const reason of reasons) redis.cli('XADD', queues[place].replace(':q:', ':dlq:'), id, 'source', `{"list":{"list":"l","number":${place}}}`, 'reason', reason, 'entry', 'x');
    }
  };
  const dropped = (line) => json(ok(`carillon dlq drop ${line} --output json`).stdout).reduce((sum, { dropped: count }) => sum + count, 0);
  put();
  assert.equal(dropped('--older-than 1h'), 0);
  assert.equal(dropped("--reason 'not UTF-8' --older-than 1h"), 0);
  assert.equal(dropped("--reason 'not UTF-8'"), 2);
  assert.deepEqual(deadLetters().map(({ reason }) => reason), ['too large']);
  const [partition] = deadLetters()[0].id.split('/');
  assert.equal(dropped(`--partition ${(Number(partition) + 1) % 8}`), 0);
  assert.equal(dropped(`--partition ${partition}`), 1);
  // More than a page of them, and more than one partition.
  for (let i = 0; i < 60; i += 1) put();
  assert.match(ok('carillon dlq drop --all').stdout, /^(partition \d: \d+ are gone\n){2}$/);
  assert.deepEqual(deadLetters(), []);
  assert.match(ok('carillon dlq drop --all').stderr, /no such dead letters/);
  for (const place of Object.keys(letters)) redis.cli('DEL', queues[place].replace(':q:', ':dlq:'));
  put('1000000000000-*');
  assert.equal(dropped('--older-than 30d'), 3);
  for (const wrong of ['', '1/1-0 --all', '--partition 8', '--older-than soon']) assert.equal(run(`carillon dlq drop ${wrong}`).status, 64, wrong);
});

test('config check tells all mistakes at once', () => {
  const mistaken = run('carillon config check --redis.mode ring --gateway.shards 0 --polcy.file x --output json', { env: { CARILLON_LOG__FORMAT: 'xml' } });
  assert.equal(mistaken.status, 64);
  const problems = json(mistaken.stdout).map(({ ok: fine, problem }) => { assert.equal(fine, false); return problem; }).join('\n');
  for (const named of ['redis.mode', 'gateway.shards', 'polcy.file', 'CARILLON_LOG__FORMAT']) assert.ok(problems.includes(named), problems);
  fs.writeFileSync(path.join(folder, 'wrong.yaml'), 'rooms:\n- { match: a, join: everybody }\n- { match: b, history: { age: long } }\n');
  const policy = run('carillon config check --policy.file wrong.yaml');
  assert.equal(policy.status, 64);
  assert.match(policy.stdout, /rooms\[0\]\.join[^]*rooms\[1\]\.history\.age/);
  assert.equal(ok('carillon config check --connect --output json').stdout.includes('"ok":false'), false);
});

test('config check --connect finds what is wrong with Redis, and writes nothing', async () => {
  const other = await Redis.start();
  children.push({ kill: () => other.stop() });
  ok(`carillon config check --connect --redis.url ${other.url}`);
  assert.equal(other.cli('DBSIZE').trim(), '0');
  other.cli('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
  other.cli('CONFIG', 'SET', 'appendonly', 'no');
  const bad = run(`carillon config check --connect --redis.url ${other.url}`);
  assert.equal(bad.status, 1);
  assert.match(bad.stdout, /bad .*eviction: .*noeviction[^]*bad .*persistence: .*appendonly/);
  const born = run('carillon config check --connect --broker.partitions 16');
  assert.equal(born.status, 1);
  assert.match(born.stdout, /born with partitions 8/);
  const away = run('carillon config check --connect --redis.url redis://127.0.0.1:1');
  assert.equal(away.status, 1);
  assert.match(away.stdout, /redis\.url/);
});

test('config check --connect says what redis.wait_replicas protects', async () => {
  const [primary, ...replicas] = await Promise.all([Redis.start(), Redis.start(), Redis.start()]);
  for (const server of [primary, ...replicas]) children.push({ kill: () => server.stop() });
  for (const replica of replicas) replica.cli('REPLICAOF', '127.0.0.1', `${primary.port}`);
  await until('both replicas are attached', () => primary.cli('INFO', 'replication').match(/state=online/g)?.length === 2);
  for (const [waited, said] of [
    [0, /replicas: 2, none waited for: [^\n]*redis\.wait_replicas 2 would keep them/],
    [1, /replicas: 2, 1 waited for: [^\n]*not a promotion; redis\.wait_replicas 2 would/],
    [2, /replicas: 2, all of them waited for/],
    [3, /replicas: 2, redis\.wait_replicas asks for 3: nothing is accepted until they are there/],
  ]) assert.match(ok(`carillon config check --connect --redis.url ${primary.url} --redis.wait_replicas ${waited}`).stdout, said);
});

test('policy check and explain say which rule decides', () => {
  assert.match(ok('carillon policy check policy.yaml').stdout, /^ok/);
  const wrong = run('carillon policy check wrong.yaml');
  assert.equal(wrong.status, 64);
  assert.match(wrong.stdout, /rooms\[0\]\.join[^]*rooms\[1\]\.history\.age/);
  assert.equal(run('carillon policy check missing.yaml').status, 64);
  const [closed] = json(ok('carillon policy explain closed 42 --policy.file policy.yaml --output json').stdout);
  assert.equal(closed.rule, 1);
  assert.equal(closed.answers.join.answer, 'no');
  const text = ok('carillon policy explain short --policy.file policy.yaml').stdout;
  assert.match(text, /rooms\[0\], `short`/);
  assert.match(text, /join +yes/);
  assert.match(text, /publish +no/);
});

test('without a file, explain goes by what is in Redis, and does not guess where that is away', () => {
  const explain = (more = '') => run(`carillon policy explain lobby 42 --output json${more}`, { env: { CARILLON_POLICY__FILE: '' } });
  const [builtIn] = json(explain().stdout);
  assert.match(builtIn.policy, /^the built-in policy, as there is none in Redis/);
  assert.equal(builtIn.rule, null);
  // As the operator writes it.
  redis.cli('HSET', 'carillon:policy', 'revision', 'seven', 'document', JSON.stringify({ rooms: [{ match: 'lobby', join: 'nobody' }] }));
  try {
    const [bySnapshot] = json(explain().stdout);
    assert.match(bySnapshot.policy, /in Redis, revision seven/);
    assert.deepEqual([bySnapshot.rule, bySnapshot.answers.join.answer], [0, 'no']);
    redis.cli('HSET', 'carillon:policy', 'document', 'rooms: nonsense');
    const wrong = explain();
    assert.deepEqual([wrong.status, wrong.stdout], [1, '']);
    assert.match(JSON.parse(wrong.stderr).error, /revision seven, is wrong.*rooms/s);
  } finally {
    redis.cli('DEL', 'carillon:policy');
  }
  const away = explain(' --redis.url redis://127.0.0.1:1');
  assert.deepEqual([away.status, away.stdout], [1, '']);
  assert.match(JSON.parse(away.stderr).error, /not known; name a file with --policy\.file/);
});

test('a program that asked for JSON finds in it why a command failed', () => {
  const failures = {
    'carillon tail --rooms closed': 1,
    'carillon push --room lobby --event tick --file missing.json': 1,
    'carillon rooms --redis.url redis://127.0.0.1:1': 1,
    'carillon gateways --redis.url redis://127.0.0.1:1': 1,
    'carillon dlq list --redis.url redis://127.0.0.1:1': 1,
    'carillon dlq drop nonsense': 64,
    'carillon rooms --no.such setting': 64,
    'carillon policy check missing.yaml': 64,
    'carillon policy explain lobby --policy.file missing.yaml': 64,
  };
  for (const [line, code] of Object.entries(failures)) {
    const failed = run(`${line} --output json`);
    const { error, exit_code } = JSON.parse(failed.stderr.trim().split('\n').at(-1));
    assert.ok(error.length > 10, line);
    assert.deepEqual([failed.status, exit_code], [code, code], `${line}\n${failed.stderr}`);
  }
});

test('completions can be read by their shells, and manual pages are written', () => {
  for (const shell of ['zsh', 'fish', 'elvish', 'powershell']) assert.ok(ok(`carillon completions ${shell}`).stdout.includes('gateways'));
  ok('carillon man pages');
  assert.ok(fs.readFileSync(path.join(folder, 'pages/carillon-dlq-replay.1'), 'utf8').includes('.TH'));
});

/** The dead letters there are. */
const deadLetters = () => json(ok('carillon dlq list --output json').stdout);

/** Puts one dead letter in place that can't be read, and one that can: `text` for the lobby. */
async function bury(text) {
  assert.deepEqual(deadLetters(), []);
  const [queue] = redis.cli('--scan', '--pattern', 'carillon:q:*').trim().split('\n');
  redis.cli('XADD', queue, '*', 'e', 'not protobuf');
  const [unreadable] = await until('it is dead', () => deadLetters().length === 1 && deadLetters(), 60_000);
  redis.cli('XADD', queue.replace(':q:', ':dlq:'), '*', 'source', '{"queue":"1-0"}', 'reason', 'a test', 'entry', entry('lobby', text));
  const readable = deadLetters().find(({ room }) => room === 'lobby');
  assert.ok(readable);
  return { unreadable, readable };
}

/** Examples that need something there before them, and what is so after them. */
const around = [
  [/ carillon dlq replay$/, async (example) => {
    const listener = new Listener(`http://127.0.0.1:${gatewayPort}`, { rooms: ['lobby'] });
    await until('it listens', () => listener.settled);
    const { unreadable, readable } = await bury('sent again');
    assert.match(example().stdout, new RegExp(`^${readable.id} was sent again`));
    await until('the message that was dead is heard', () => listener.of('lobby').some(({ data }) => data === 'sent again'));
    listener.close();
    assert.deepEqual(deadLetters().map(({ id }) => id), [unreadable.id], 'what can\'t be read is still there');
    ok(`carillon dlq drop ${unreadable.id}`);
  }],
  [/ carillon dlq drop$/, async (example) => {
    const { unreadable, readable } = await bury('not to be dropped');
    assert.equal(example().stdout, `${unreadable.id} is gone\n`);
    assert.deepEqual(deadLetters().map(({ id }) => id), [readable.id], 'what can be read is still there');
    ok(`carillon dlq drop ${readable.id}`);
    assert.deepEqual(deadLetters(), []);
  }],
  // Bash does not look at how the program in `<(…)` ended, unless it is asked to.
  [/^source <\(/, (_, line) => ok(`${line} && wait $! && complete -p carillon`)],
];

test('every example of the help works', async () => {
  const reference = ok('carillon commands').stdout;
  const examples = [...reference.matchAll(/^ {2}\$ (.*)$/gm)].map(([, line]) => line);
  assert.ok(examples.length > 35, `${examples.length} examples`);
  // What the help breaks into two lines can't be copied from it, and would be run without its end.
  for (const [, block] of reference.matchAll(/^Examples:\n((?:(?!```).*\n)*)/gm)) {
    for (const line of block.trimEnd().split('\n')) assert.match(line, /^ {2}[$#] /, `an example is too long for one line:\n${block}`);
  }
  const seen = new Set();
  for (const example of examples) {
    const line = example
      .replaceAll('127.0.0.1:6379', `127.0.0.1:${redis.port}`)
      .replaceAll('127.0.0.1:3000', `127.0.0.1:${gatewayPort}`)
      .replaceAll('127.0.0.1:8080', `127.0.0.1:${await freePort()}`);
    const [, service] = /^carillon (dev|gateway|dispatcher|ingest)\b(?!.*--print-settings)/.exec(line) ?? [];
    const [, special] = around.find(([pattern]) => pattern.test(line)) ?? [];
    const endless = /^carillon tail (?!.*--count)/.test(line);
    if (service) {
      const admin = `127.0.0.1:${await freePort()}`;
      const own = { CARILLON_ADMIN__LISTEN: admin, CARILLON_GATEWAY__LISTEN: `127.0.0.1:${await freePort()}`, CARILLON_INGEST__HTTP__LISTEN: `127.0.0.1:${await freePort()}`, CARILLON_INGEST__GRPC__LISTEN: '127.0.0.1:0', CARILLON_GATEWAY__POD: 'example' };
      const shell = follow(line, own, service);
      await until(`it is ready: ${line}`, async () => { assert.equal(shell.end, undefined, shell.stderr); return (await fetch(`http://${admin}/readyz`)).ok; });
      shell.ready();
      assert.equal((await shell.stop('SIGTERM')).code, 0, `${line}\n${shell.stderr}`);
    } else if (endless) {
      const shell = follow(line);
      await until(`something is shown: ${line}`, () => {
        assert.equal(shell.end, undefined, `${line}\n${shell.stderr}`);
        run('carillon push --all --event news hello');
        return shell.stdout.includes('hello');
      });
      assert.equal((await shell.stop()).code, 0, `${line}\n${shell.stderr}`);
    } else if (special) {
      seen.add(special);
      await special(() => ok(line), line);
    } else {
      ok(line);
    }
  }
  assert.equal(seen.size, around.length, 'all of the special ones are among the examples');
});
