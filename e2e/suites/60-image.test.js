// The image: what is in it, whom it runs as, and that the program in it runs there with nothing else. It is packed from the
// development build, so its size is that of a release only in `make image`, which refuses one that is too large.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';

const script = path.resolve(import.meta.dirname, '../../scripts/image');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-image-'));
const archive = path.join(folder, 'carillon.tar');
const root = path.join(folder, 'root');
const pack = (...more) => spawnSync(script, ['--binary', process.env.E2E_BINARY, ...more], { encoding: 'utf8' });
const blob = (digest) => path.join(folder, 'archive/blobs', digest.replace(':', '/'));
const read = (file) => JSON.parse(fs.readFileSync(file, 'utf8'));
let index, manifest, config, listing;

before(() => {
  const packed = pack('--output', archive, '--name', 'localhost/carillon:test', '--revision', 'abc123');
  assert.equal(packed.status, 0, packed.stderr);
  for (const place of ['archive', 'root']) fs.mkdirSync(path.join(folder, place));
  execFileSync('tar', ['-xf', archive, '-C', path.join(folder, 'archive')]);
  index = read(path.join(folder, 'archive/index.json'));
  manifest = read(blob(index.manifests[0].digest));
  config = read(blob(manifest.config.digest));
  execFileSync('tar', ['-xpf', blob(manifest.layers[0].digest), '-C', root]);
  listing = execFileSync('tar', ['-tvzf', blob(manifest.layers[0].digest)], { encoding: 'utf8' }).trim().split('\n');
});
after(() => fs.rmSync(folder, { recursive: true, force: true }));

test('every part has the digest and size it is named by', () => {
  const sum = (data) => `sha256:${createHash('sha256').update(data).digest('hex')}`;
  for (const { digest, size } of [index.manifests[0], manifest.config, ...manifest.layers]) {
    const data = fs.readFileSync(blob(digest));
    assert.equal(sum(data), digest);
    assert.equal(data.length, size);
  }
  assert.equal(sum(execFileSync('gzip', ['-dc', blob(manifest.layers[0].digest)], { maxBuffer: 1 << 30 })), config.rootfs.diff_ids[0]);
  assert.equal(index.manifests[0].annotations['io.containerd.image.name'], 'localhost/carillon:test');
  assert.deepEqual(read(path.join(folder, 'archive/manifest.json'))[0].RepoTags, ['localhost/carillon:test']);
});

test('it runs as nobody, enters at carillon, and says what it is', () => {
  assert.equal(config.config.User, '65532:65532');
  assert.deepEqual(config.config.Entrypoint, ['/usr/local/bin/carillon']);
  assert.equal(config.config.Cmd, undefined);
  const version = execFileSync(process.env.E2E_BINARY, ['--version'], { encoding: 'utf8' }).match(/\d+\.\d+\.\d+/)[0];
  assert.deepEqual(config.config.Labels, {
    'org.opencontainers.image.title': 'carillon',
    'org.opencontainers.image.description': 'Real-time push for stock Socket.IO clients',
    'org.opencontainers.image.licenses': 'MIT OR Apache-2.0',
    'org.opencontainers.image.version': version,
    'org.opencontainers.image.revision': 'abc123',
  });
});

test('there is one program in it, nothing is setuid, and nobody but root owns anything', () => {
  const programs = listing.map((line) => line.split(' ').at(-1)).filter((name) => /(^|\/)s?bin\/./.test(name));
  assert.deepEqual(programs, ['usr/local/bin/carillon']);
  for (const line of listing) {
    assert.match(line, /^[-d][rwx-]{8}[xt-] root\/root /, 'plain files and folders of root, without s');
    // Only /tmp may be written to, and it is one where nobody may remove what is another's.
    if (line[8] === 'w') assert.match(line, /^drwxrwxrwt .* tmp\/$/);
  }
});

test('the layout of the folder, which the Dockerfile copies, is the same', () => {
  const files = path.join(folder, 'folder');
  const written = pack('--folder', files);
  assert.equal(written.status, 0, written.stderr);
  const of = (place) => execFileSync('find', ['.', '-mindepth', '1', '-printf', '%P %m %y\n'], { cwd: place, encoding: 'utf8' }).split('\n').sort();
  assert.deepEqual(of(files), of(root));
});

test('the program runs there, as nobody, with nothing of this machine', { skip: process.getuid() !== 0 && 'needs root, for chroot' }, () => {
  const ran = spawnSync('chroot', ['--userspec=65532:65532', root, '/usr/local/bin/carillon', '--version'], { encoding: 'utf8', env: { PATH: process.env.PATH } });
  assert.equal(ran.status, 0, ran.stderr);
  assert.match(ran.stdout, /^carillon \d/);
  const checked = spawnSync('chroot', ['--userspec=65532:65532', root, '/usr/local/bin/carillon', 'gateway', '--print-settings'], { encoding: 'utf8', env: { PATH: process.env.PATH } });
  assert.equal(checked.status, 0, checked.stderr);
});

test('the Dockerfile is given the whole workspace', { skip: spawnSync('cargo', ['--version']).status !== 0 && 'needs cargo' }, () => {
  const root = path.resolve(import.meta.dirname, '../..');
  const lines = fs.readFileSync(path.join(root, 'deploy/image/Dockerfile.dockerignore'), 'utf8').split('\n').filter((line) => line && !line.startsWith('#'));
  // As an engine reads it: the last line that fits a file decides.
  const fits = (pattern, file) => (pattern === '*' ? true : pattern.startsWith('**/') ? file.split('/').includes(pattern.slice(3)) : file === pattern || file.startsWith(`${pattern}/`));
  const isGiven = (file) => lines.reduce((given, line) => (fits(line.replace(/^!/, ''), file) ? line.startsWith('!') : given), true);
  const context = path.join(folder, 'context');
  for (const file of execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).split('\n').filter(isGiven).filter(Boolean)) {
    fs.cpSync(path.join(root, file), path.join(context, file), { recursive: true });
  }
  const metadata = spawnSync('cargo', ['metadata', '--locked', '--offline', '--no-deps', '--format-version', '1'], { cwd: context, encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(metadata.status, 0, metadata.stderr);
  for (const { targets } of JSON.parse(metadata.stdout).packages) {
    for (const { src_path: source } of targets) assert.ok(fs.existsSync(source), `${source} is not in the context`);
  }
  assert.ok(!fs.existsSync(path.join(context, 'docs')), 'and nothing else, or the cache is of no use');
  // What its last step runs.
  assert.ok(fs.existsSync(path.join(context, 'scripts/image')));
});

test('the same program makes the same image', () => {
  const again = path.join(folder, 'again.tar');
  assert.equal(pack('--output', again, '--name', 'localhost/carillon:test', '--revision', 'abc123').status, 0);
  assert.ok(fs.readFileSync(archive).equals(fs.readFileSync(again)));
});

test('one that is too large is refused, and so is what is no program', () => {
  const large = pack('--output', path.join(folder, 'large.tar'), '--limit', '1');
  assert.equal(large.status, 1);
  assert.match(large.stderr, /image: the image has .* 1 MB is the limit/);
  assert.ok(!fs.existsSync(path.join(folder, 'large.tar')));
  const none = spawnSync(script, ['--binary', '/nowhere', '--output', path.join(folder, 'none.tar')], { encoding: 'utf8' });
  assert.equal(none.status, 1);
  assert.match(none.stderr, /\/nowhere is no file; build it first/);
});
