// `e2e/chaos/run`: what is typed wrong is said, with the usage, and nothing is played.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import test from 'node:test';

const run = (...args) => spawnSync(path.resolve(import.meta.dirname, '../chaos/run'), args, { encoding: 'utf8', timeout: 60_000 });

for (const [args, problem] of [
  [['--sed', '7'], /Unknown option '--sed'/],
  [['--seed', 'x', 'service-kills'], /--seed x is not a whole number/],
  [['--jobs', '0', 'service-kills'], /--jobs 0 is not a whole number from 1 on/],
  [['no-such-scenario'], /no scenario is named no-such-scenario/],
]) {
  test(`${args.join(' ')} is refused`, () => {
    const { status, stdout, stderr } = run(...args);
    assert.equal(status, 64, stderr);
    assert.match(stderr, problem);
    assert.match(stderr, /^usage: chaos\/run/m);
    assert.doesNotMatch(stderr, /^ +at /m);
    assert.equal(stdout, '');
  });
}

test('--help shows the usage', () => {
  const { status, stdout } = run('--help');
  assert.equal(status, 0);
  assert.match(stdout, /^usage: chaos\/run/);
});
