// The chart's dashboards and rules by themselves: what they are made of, and promtool's unit tests of every alert.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { complaints, files } from '../../scripts/dashboards/build.mjs';
import { hurried, ruleFiles } from '../lib/prometheus.js';

const folder = path.resolve(import.meta.dirname, '../../helm/carillon/rules/tests');
const promtool = (...args) => {
  try {
    execFileSync('promtool', args, { stdio: 'pipe', encoding: 'utf8' });
  } catch (error) {
    assert.fail(`promtool ${args[0]} ${args[1]}: ${error.stdout}${error.stderr}`);
  }
};

test('the dashboards are what their sources make', () => {
  assert.deepEqual(complaints(), [], 'make dashboards');
  const panels = new Set();
  for (const text of files.values()) {
    const { uid, panels: all, links, templating } = JSON.parse(text);
    assert.ok(links.length > 0 && templating.list.length === 4, `${uid} leads to the others and can be narrowed`);
    const places = all.map(({ gridPos: { x, y, w, h } }) => ({ x, y, right: x + w, bottom: y + h }));
    for (const [index, one] of places.entries()) {
      assert.ok(one.right <= 24, `${uid}: ${all[index].title} is too far to the right`);
      const over = places.findIndex((other, at) => at > index && one.x < other.right && other.x < one.right && one.y < other.bottom && other.y < one.bottom);
      assert.equal(over, -1, `${uid}: ${all[index].title} lies over ${all[over]?.title}`);
    }
    panels.add(uid);
  }
  assert.equal(panels.size, 7);
});

test('rules are valid, also as the end-to-end suite hurries them', () => {
  assert.ok(ruleFiles().length >= 2);
  promtool('check', 'rules', ...ruleFiles());
  for (const file of ruleFiles()) {
    const text = fs.readFileSync(file, 'utf8');
    const words = (rules) => rules.replace(/\[\d+\w\]|^\s+(for|interval): .*$/gm, '');
    assert.equal(words(hurried(text)), words(text), 'hurrying changes durations only');
    assert.notEqual(hurried(text), text);
  }
});

test('every alert fires when it should, and only then', () => {
  promtool('test', 'rules', ...fs.readdirSync(folder).map((name) => path.join(folder, name)));
});
