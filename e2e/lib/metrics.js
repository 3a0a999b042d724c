// Metrics as /metrics shows them, and the reference that is made of them.

/** Families of an exposition: name → { type, help, labels }. `known` is added to. */
export function families(text, known = new Map()) {
  for (const line of text.split('\n')) {
    const [, kind, name, rest] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind) {
      const family = known.get(name) ?? { type: '', help: '', labels: new Set() };
      family[kind.toLowerCase()] = rest;
      known.set(name, family);
      continue;
    }
    const [, series, labels] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? /.exec(line) ?? [];
    const family = known.get(series) ?? known.get(series?.replace(/_(bucket|sum|count)$/, ''));
    for (const [, label] of (labels ?? '').matchAll(/(\w+)="(?:[^"\\]|\\.)*"/g)) if (label !== 'le') family?.labels.add(label);
  }
  return known;
}

const SECTIONS = [
  ['Every process', /^(carillon_(build_info|policy|ready|drain|partitions)|process_)/],
  ['Redis, as every service on it sees it', /^carillon_redis_/],
  ['Ingest', /^carillon_ingest_/],
  ['Dispatcher', /^carillon_dispatcher_/],
  ['Gateway', /^carillon_gateway_/],
  ['Operator', /^carillon_operator_/],
];

/** The text of docs/metrics.md. */
export function reference(known) {
  const rest = new Map([...known].sort(([a], [b]) => (a < b ? -1 : 1)));
  const sections = SECTIONS.map(([title, pattern]) => {
    const rows = [...rest].filter(([name]) => pattern.test(name)).map(([name, { type, help, labels }]) => {
      rest.delete(name);
      return `| \`${name}\` | ${type} | ${[...labels].sort().map((label) => `\`${label}\``).join(', ')} | ${help.replaceAll('|', '\\|')} |`;
    });
    return `## ${title}\n\n| name | type | labels | what it says |\n|---|---|---|---|\n${rows.join('\n')}\n`;
  });
  if (rest.size > 0) throw new Error(`no section of the reference takes ${[...rest.keys()]}`);
  return `# Metrics

Every service shows its metrics as \`/metrics\` on its admin port (9090), in Prometheus' text format. Units are in the
names: \`_seconds\`, \`_bytes\`; counters end in \`_total\`. A label's values are fixed in the code, so no room, user or
producer can multiply the series. Histograms that say "by the clocks of two machines" hold what those differ by.

Dashboards and rules stand on these: [operations](operations.md) says how to use them, and there is a
[runbook](runbooks/README.md) for each alert. They tell installations apart by the label \`namespace\` and processes by
\`pod\`, both of which a scrape in Kubernetes adds.

This page is written by the end-to-end suite \`e2e/suites/50-metrics.test.js\` from what a running installation shows,
and compared with it: \`UPDATE_METRICS=1 e2e/run 50-metrics\` writes it anew.

${sections.join('\n')}`;
}
