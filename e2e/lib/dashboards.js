// What the dashboards ask Prometheus, with their variables filled in as Grafana does.
import assert from 'node:assert/strict';

/**
 * Every expression of every panel, and where it stands.
 * @param {Iterable<[string, string]>} files each dashboard's name and text
 * @returns {Map<string, string>}
 */
export function expressionsOf(files) {
  const expressions = new Map();
  for (const [name, text] of files) {
    const { panels, templating, title } = JSON.parse(text);
    assert.ok(panels.length > 5 && templating.list.length === 4, title);
    for (const { targets = [], ...panel } of panels) {
      if (panel.type !== 'row') assert.ok(panel.description && targets.length > 0, `${name}: ${panel.title}`);
      for (const { expr } of targets) expressions.set(expr, `${name}: ${panel.title}`);
    }
  }
  return expressions;
}

/** Fills in variables; there must be one for each that is asked for. */
export const filled = (expression, values) => expression.replace(/\$(\w+)/g, (_, name) => {
  assert.ok(values[name], `$${name} in ${expression}`);
  return values[name];
});

/** What Grafana makes of values that somebody chose: a pattern within a string. */
const chosen = (values) => {
  const escaped = values.map((value) => value.replace(/\\/g, '\\\\\\\\').replace(/[$^*{}[\]'+?.()|]/g, '\\\\$&'));
  return escaped.length === 1 ? escaped[0] : `(${escaped.join('|')})`;
};

/**
 * Goes through a dashboard's variables from top to bottom, as its page does, and chooses.
 * @param {string} text the dashboard
 * @param {import('./prometheus.js').Prometheus} prometheus where their values come from
 * @param {(name: string, offered: string[]) => string[]} choose which of the values
 * @returns {Promise<Record<string, string>>} what expressions are filled with
 */
export async function choices(text, prometheus, choose) {
  const values = {};
  for (const { name, definition } of JSON.parse(text).templating.list.filter(({ type }) => type === 'query')) {
    const [, selector, label] = /^label_values\((.*), (\w+)\)$/.exec(filled(definition, values)) ?? assert.fail(definition);
    const picked = choose(name, await prometheus.api(`label/${label}/values`, { 'match[]': selector }));
    assert.ok(picked.length > 0, `nothing to choose for $${name}`);
    values[name] = chosen(picked);
  }
  return values;
}
