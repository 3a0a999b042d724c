// Tokens: every kind of key, every way to be wrong, keys that change and go away, and sessions that outlive their token.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { after, before } from 'node:test';
import { io } from 'socket.io-client';
import { canary, remember } from '../lib/canaries.js';
import { Issuer } from '../lib/jwks.js';
import { Signer, token } from '../lib/jwt.js';
import { Producer } from '../lib/producer.js';
import { Service } from '../lib/processes.js';
import { Redis } from '../lib/redis.js';
import { refused } from '../lib/refusal.js';
import { until } from '../lib/until.js';

const secret = canary('token-key');
const aud = 'push';
const iss = 'https://login.example.com';
const signers = ['RS256', 'ES256', 'EdDSA'].map((algorithm) => new Signer(algorithm));
const children = [];
const sockets = [];
let settings;
let gateway;
let producer;
let issuer;

const now = () => Math.floor(Date.now() / 1000);
const start = async (kind, more = {}) => {
  const service = await Service.start(kind, { ...settings, ...more });
  children.push(service);
  return service;
};
const connect = (to, auth, options = {}) => {
  if (typeof auth?.token === 'string') remember('token', auth.token);
  const socket = io(to.url, { auth, forceNew: true, transports: ['websocket'], reconnectionDelay: 50, reconnectionDelayMax: 100, ...options });
  socket.got = [];
  socket.onAny((event, ...got) => socket.got.push([event, ...got]));
  sockets.push(socket);
  return socket;
};
const connected = (socket) => until('connected', () => socket.connected);
const refusal = async (to, bad, options) => {
  const socket = connect(to, { token: bad }, options);
  return (await refused(socket)).message.split(':')[0];
};
const ask = (socket, event, argument) => {
  if (event === 'refresh' && argument.token) remember('token', argument.token);
  return socket.timeout(10_000).emitWithAck(event, argument);
};
const counted = (to, code) => to.metric('carillon_gateway_handshakes_refused_total', `code="${code}"`);
const jwks = (more = {}) => ({
  CARILLON_IDENTITY__HS256_SECRET: '',
  CARILLON_IDENTITY__PUBLIC_KEYS: '',
  CARILLON_IDENTITY__JWKS__URL: issuer.url,
  CARILLON_IDENTITY__JWKS__COOLDOWN: '100ms',
  CARILLON_IDENTITY__JWKS__TIMEOUT: '1s',
  ...more,
});

before(async () => {
  const redis = await Redis.start();
  children.push({ kill: () => redis.stop() });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-identity-'));
  const policy = path.join(folder, 'policy.yaml');
  fs.writeFileSync(policy, 'anonymous: { sessions: true, producers: true }\nrooms:\n- { match: "team-*", join: nobody }\n- { match: "*", join: anyone }\n');
  const files = signers.map(({ algorithm, pem }) => {
    const file = path.join(folder, `${algorithm}.pem`);
    fs.writeFileSync(file, pem);
    return file;
  });
  settings = {
    CARILLON_REDIS__URL: redis.url,
    CARILLON_POLICY__FILE: policy,
    CARILLON_IDENTITY__HS256_SECRET: secret,
    CARILLON_IDENTITY__PUBLIC_KEYS: files.join(','),
    CARILLON_IDENTITY__AUDIENCE: `other,${aud}`,
    CARILLON_IDENTITY__ISSUERS: iss,
    CARILLON_IDENTITY__REFRESH_GRACE: '1s',
  };
  issuer = await Issuer.start();
  children.push({ kill: () => issuer.leave() });
  await start('dispatcher');
  gateway = await start('gateway');
  producer = new Producer((await start('ingest')).ingest);
});
after(async () => {
  sockets.forEach((socket) => socket.close());
  for (const child of children.reverse()) await child.kill();
});

test('all four algorithms say whose the session is and which rooms it may join', async () => {
  const claims = { aud, iss, rooms: ['team-*'] };
  const tokens = { HS256: token(secret, { ...claims, sub: 'HS256' }) };
  for (const signer of signers) tokens[signer.algorithm] = signer.token({ ...claims, sub: signer.algorithm });
  for (const [user, good] of Object.entries(tokens)) {
    for (const transports of [['websocket'], ['polling']]) {
      const socket = connect(gateway, { token: good }, { transports });
      await connected(socket);
      assert.equal((await ask(socket, 'join', { room: 'team-a' })).ok, true, user);
      await producer.send({ to: { user }, event: 'hello', data: user });
      await until(`${user} heard it`, () => socket.got.some(([event, data]) => event === 'hello' && data === user));
      socket.close();
    }
  }
  const plain = connect(gateway, { token: token(secret, { sub: 'ann', aud, iss }) });
  await connected(plain);
  assert.equal((await ask(plain, 'join', { room: 'team-a' })).error.code, 'forbidden');
  assert.equal((await ask(plain, 'join', { room: 'lobby' })).ok, true);
});

test('every way to be wrong has its own code', async () => {
  const [rsa, ec] = signers;
  const good = { sub: 'ann', aud, iss };
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify(good)).toString('base64url')}.`;
  const cases = [
    ['token_expired', token(secret, { ...good, exp: now() - 60 })],
    ['token_not_yet_valid', token(secret, { ...good, nbf: now() + 60 })],
    ['token_bad_signature', token('guessed', good)],
    ['token_bad_signature', new Signer('RS256').token(good)],
    ['token_bad_signature', new Signer('ES256').token(good)],
    ['token_bad_signature', new Signer('EdDSA').token(good)],
    ['token_bad_signature', ec.token(good, { alg: 'RS256' })],
    ['token_bad_signature', token(rsa.pem, good)],
    ['token_bad_algorithm', unsigned],
    ['token_bad_algorithm', rsa.token(good, { alg: 'RS512' })],
    ['token_wrong_audience', token(secret, { ...good, aud: 'web' })],
    ['token_wrong_audience', token(secret, { sub: 'ann', iss })],
    ['token_wrong_issuer', rsa.token({ ...good, iss: 'https://evil.example.com' })],
    ['token_wrong_issuer', rsa.token({ sub: 'ann', aud })],
    ['token_invalid', token(secret, { aud, iss })],
    ['token_invalid', 'garbage'],
    ['token_invalid', { not: 'a text' }],
  ];
  for (const [code, bad] of cases) assert.equal(await refusal(gateway, bad), code);
  assert.equal(await refusal(gateway, cases[0][1], { transports: ['polling'] }), 'token_expired');
  for (const [code] of cases) assert.ok(await counted(gateway, code) > 0, code);
});

test('keys of an issuer: fetched, rotated, kept while it is away, and not for ever', async () => {
  const [one, two, three] = ['RS256', 'ES256', 'EdDSA'].map((algorithm, n) => new Signer(algorithm, `key-${n}`));
  const made = (signer, user) => signer.token({ sub: user, aud, iss });
  issuer.signers = [one];
  const short = { CARILLON_IDENTITY__JWKS__REFRESH: '1s', CARILLON_IDENTITY__JWKS__STALE: '4s' };
  const slow = await start('gateway', jwks());
  const quick = await start('gateway', jwks(short));
  for (const to of [slow, quick]) await connected(connect(to, { token: made(one, 'ann') }));
  assert.equal(await refusal(slow, made(two, 'ann')), 'token_unknown_key');
  assert.equal(await refusal(slow, token(secret, { sub: 'ann', aud, iss })), 'token_bad_algorithm');
  assert.equal(await refusal(slow, token(one.pem, { sub: 'ann', aud, iss, kid: one.kid })), 'token_bad_algorithm');

  issuer.signers = [two, three];
  // The slow one fetches every five minutes: it looks because the token names a key it does not know.
  await until('it has looked', async () => {
    const socket = connect(slow, { token: made(three, 'ben') });
    return new Promise((resolve) => { socket.on('connect', () => resolve(true)).on('connect_error', () => resolve(false)); });
  });
  await connected(connect(slow, { token: made(two, 'ben') }));
  assert.equal(await refusal(slow, made(one, 'ann')), 'token_unknown_key', 'withdrawn');
  assert.equal(await refusal(slow, new Signer('ES256', 'key-1').token({ sub: 'ann', aud, iss })), 'token_bad_signature');
  await until('the quick one has the new keys by itself', async () => (await quick.metric('carillon_gateway_jwks_keys')) === 2);

  await issuer.leave();
  await until('a fetch has failed', async () => (await quick.metric('carillon_gateway_jwks_fetches_total', 'failed')) > 0);
  await connected(connect(quick, { token: made(two, 'cleo') }));
  // Until the keys are too old. That passes, so a stock client is made to come back by itself.
  const patient = await until('the keys are too old', async () => {
    const socket = connect(quick, { token: made(two, 'dan') });
    const seen = await until('in or not', async () => (socket.connected ? 'in' : await counted(quick, 'token_keys_unavailable') > 0 && 'out'));
    if (seen === 'in') return socket.close() && false;
    return socket;
  });
  assert.equal(patient.active, true);
  const told = await start('gateway', jwks({ CARILLON_IDENTITY__OUTAGE: 'tell' }));
  await until('it has asked in vain', async () => (await told.metric('carillon_gateway_jwks_fetches_total', 'failed')) > 0);
  assert.equal(await refusal(told, made(two, 'dan')), 'token_keys_unavailable');
  await issuer.come();
  await connected(patient);
});

test('made up keys do not make the gateway ask the issuer again and again', async () => {
  issuer.signers = [new Signer('EdDSA', 'key')];
  const calm = await start('gateway', jwks({ CARILLON_IDENTITY__JWKS__COOLDOWN: '1h' }));
  await connected(connect(calm, { token: issuer.signers[0].token({ sub: 'ann', aud, iss }) }));
  for (let n = 0; n < 10; n += 1) {
    assert.equal(await refusal(calm, new Signer('EdDSA', `made up ${n}`).token({ sub: 'ann', aud, iss })), 'token_unknown_key');
  }
  assert.equal(await calm.metric('carillon_gateway_jwks_fetches_total'), 1);
});

test('a session whose token expires is told, and goes on with a new one of the same user', async () => {
  const lasting = (seconds, user = 'eve', more = {}) => token(secret, { sub: user, aud, iss, exp: now() + seconds, ...more });
  const socket = connect(gateway, { token: lasting(2) });
  const reasons = [];
  socket.on('disconnect', (reason) => reasons.push(reason));
  await connected(socket);
  assert.equal((await ask(socket, 'join', { room: 'team-b' })).error.code, 'forbidden');
  const expired = await until('it is told', () => socket.got.find(([event]) => event === 'token_expired'));
  assert.deepEqual(expired, ['token_expired', { refresh_within_ms: 1_000 }]);
  const refused = [
    ['token_wrong_user', lasting(60, 'mallory')],
    ['token_bad_signature', token('guessed', { sub: 'eve', aud, iss })],
    ['token_expired', token(secret, { sub: 'eve', aud, iss, exp: now() - 60 })],
  ];
  for (const [code, bad] of refused) assert.equal((await ask(socket, 'refresh', { token: bad })).error.code, code);
  assert.equal((await ask(socket, 'refresh', { jwt: 'x' })).error.code, 'bad_request');
  const exp = now() + 3;
  const answer = await ask(socket, 'refresh', { token: token(secret, { sub: 'eve', aud, iss, exp, rooms: ['team-b'] }) });
  assert.deepEqual(answer, { ok: true, expires: exp * 1_000 });
  assert.equal((await ask(socket, 'join', { room: 'team-b' })).ok, true, 'the new token says where it may be');
  await until('the new one expires, too', () => socket.got.filter(([event]) => event === 'token_expired').length === 2);
  assert.deepEqual(reasons, [], 'the connection was never lost');
  // Nothing is done about it.
  await until('it is closed', () => reasons.length > 0);
  assert.notEqual(reasons[0], 'io server disconnect', 'after which a stock client would stay away');
  assert.equal(await gateway.metric('carillon_gateway_sessions_closed_total', 'reason="token_expired"'), 1);
});

test('a client that asks for a token when it connects comes back by itself after the end of the old one', async () => {
  let tokens = 0;
  const socket = connect(gateway, (give) => {
    tokens += 1;
    give({ token: token(secret, { sub: 'finn', aud, iss, exp: now() + (tokens === 1 ? 1 : 3600) }) });
  }, { transports: ['polling'] });
  const ids = new Set();
  socket.on('connect', () => ids.add(socket.id));
  await until('it is in for the second time', () => ids.size === 2 && socket.connected);
  assert.equal(tokens, 2);
});
