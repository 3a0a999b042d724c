// What dashboards are made of. A panel says what it shows, why, and in which unit; where it stands is computed.

/** What every expression of a panel selects by. */
export const S = 'namespace=~"$namespace",job=~"$job",pod=~"$pod"';
/** The same for recorded series, which know namespaces only. */
export const N = 'namespace=~"$namespace"';

/** A rate of a counter. */
export const rate = (name, labels = '') => `rate(${name}{${labels && `${labels},`}${S}}[$__rate_interval])`;
/** Series of a gauge. */
export const now = (name, labels = '') => `${name}{${labels && `${labels},`}${S}}`;
/** A quantile of a histogram, over all pods or by some labels. */
export const quantile = (q, name, by = '') => `histogram_quantile(${q}, sum by (${['le', by].filter(Boolean).join(', ')}) (${rate(`${name}_bucket`)}))`;
/** Series of a process' own metrics, of the pods that have this metric. */
export const processOf = (name, service) => `${name} and on (namespace, pod, instance) ${service}`;

const datasource = { type: 'prometheus', uid: '${datasource}' };
const DARK_ORANGE = 'orange';

/** Steps of colours: green, then each colour from its value on. */
const steps = (thresholds) => ({
  mode: 'absolute',
  steps: [{ color: thresholds?.base ?? 'green', value: null }, ...(thresholds?.at ?? []).map(([value, color]) => ({ color, value }))],
});
/** Warns from one value on and is bad from another. */
export const above = (warning, bad) => ({ at: [...(warning === undefined ? [] : [[warning, DARK_ORANGE]]), ...(bad === undefined ? [] : [[bad, 'red']])] });
/** Bad below a value. */
export const below = (good) => ({ base: 'red', at: [[good, 'green']] });

const targets = (list) => list.map(([expr, legend], index) => ({
  datasource, editorMode: 'code', expr, legendFormat: legend ?? '__auto', range: true, refId: String.fromCharCode(65 + index),
}));

function panel(type, title, description, list, { unit = 'short', thresholds, decimals, min, max, mappings, width, height } = {}) {
  if (!description) throw new Error(`${title}: a panel says what it shows`);
  return {
    type, title, description, datasource,
    targets: targets(typeof list === 'string' ? [[list]] : list),
    fieldConfig: {
      defaults: { unit, ...(decimals !== undefined && { decimals }), ...(min !== undefined && { min }), ...(max !== undefined && { max }), ...(mappings && { mappings }), thresholds: steps(thresholds) },
      overrides: [],
    },
    size: { width, height },
  };
}

/** One number. */
export function stat(title, description, expr, options = {}) {
  const made = panel('stat', title, description, expr, { width: 4, height: 4, ...options });
  made.targets.forEach((target) => { target.instant = true; target.range = false; });
  made.options = { colorMode: options.thresholds ? 'background' : 'value', graphMode: 'none', justifyMode: 'auto', textMode: 'auto', reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false } };
  return made;
}

/** Lines over time. */
export function lines(title, description, list, options = {}) {
  const made = panel('timeseries', title, description, list, { width: 8, height: 8, min: 0, ...options });
  made.fieldConfig.defaults.custom = {
    drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: options.stack ? 30 : 8, showPoints: 'never', spanNulls: false,
    stacking: { mode: options.stack ? 'normal' : 'none', group: 'A' },
    thresholdsStyle: { mode: options.thresholds ? 'dashed' : 'off' },
    ...(options.log && { scaleDistribution: { type: 'log', log: 10 } }),
  };
  made.options = { legend: { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] }, tooltip: { mode: 'multi', sort: 'desc' } };
  return made;
}

/** A histogram's distribution over time. */
export function heatmap(title, description, name, options = {}) {
  const made = panel('heatmap', title, description, [[`sum by (le) (${rate(`${name}_bucket`)})`, '{{le}}']], { width: 12, height: 8, ...options });
  made.targets[0].format = 'heatmap';
  made.options = {
    calculate: false, cellGap: 1, color: { mode: 'scheme', scheme: 'Oranges', steps: 64, exponent: 0.5, fill: 'dark-orange' },
    yAxis: { axisPlacement: 'left', unit: 's' }, tooltip: { mode: 'single', yHistogram: false }, legend: { show: true }, rowsFrame: { layout: 'auto' },
    filterValues: { le: 1e-9 }, exemplars: { color: 'rgba(255,0,255,0.7)' }, cellValues: { unit: 'short' },
  };
  return made;
}

/** States over time, 1 being good. */
export function states(title, description, list, { good = 'yes', bad = 'no', goodIs = 1, ...options } = {}) {
  const made = panel('state-timeline', title, description, list, {
    width: 12, height: 8, thresholds: goodIs === 1 ? below(1) : above(undefined, 1),
    mappings: [{ type: 'value', options: { [goodIs]: { text: good, color: 'green', index: 0 }, [1 - goodIs]: { text: bad, color: 'red', index: 1 } } }],
    ...options,
  });
  made.fieldConfig.defaults.custom = { fillOpacity: 70, lineWidth: 0 };
  made.options = { mergeValues: true, showValue: 'never', rowHeight: 0.8, alignValue: 'left', legend: { displayMode: 'list', placement: 'bottom', showLegend: true }, tooltip: { mode: 'single', sort: 'none' } };
  return made;
}

/** Labels with a number. */
export function table(title, description, expr, columns, options = {}) {
  const made = panel('table', title, description, expr, { width: 8, height: 6, ...options });
  Object.assign(made.targets[0], { format: 'table', instant: true, range: false });
  made.options = { cellHeight: 'sm', showHeader: true, footer: { show: false, reducer: ['sum'], fields: '' } };
  made.transformations = [{ id: 'organize', options: { excludeByName: { Time: true }, indexByName: {}, renameByName: columns } }];
  return made;
}

function variable(name, label, query, description) {
  return {
    name, label, description, type: 'query', datasource, definition: query, query: { query, refId: 'variable', qryType: 1 },
    refresh: 2, sort: 1, multi: true, includeAll: true, allValue: '.*', current: { selected: true, text: ['All'], value: ['$__all'] }, options: [], regex: '', hide: 0, skipUrlSync: false,
  };
}

/** Puts panels into rows of 24 columns, left to right. */
function place(sections) {
  const panels = [];
  let y = 0;
  let id = 1;
  for (const [title, members] of sections) {
    panels.push({ id: id++, type: 'row', title, collapsed: false, gridPos: { x: 0, y, w: 24, h: 1 }, panels: [] });
    y += 1;
    let x = 0;
    let tallest = 0;
    for (const { size, ...member } of members) {
      if (x + size.width > 24) {
        y += tallest;
        x = 0;
        tallest = 0;
      }
      panels.push({ id: id++, ...member, gridPos: { x, y, w: size.width, h: size.height } });
      x += size.width;
      tallest = Math.max(tallest, size.height);
    }
    y += tallest;
  }
  return panels;
}

/** A whole dashboard. */
export function dashboard({ name, title, description, sections }) {
  return {
    uid: `carillon-${name}`, title: `Carillon / ${title}`, description, tags: ['carillon'], schemaVersion: 39, version: 1, editable: true, graphTooltip: 1,
    refresh: '30s', time: { from: 'now-1h', to: 'now' }, timezone: 'browser', weekStart: '', fiscalYearStartMonth: 0, liveNow: false, preload: false,
    annotations: {
      list: [{
        builtIn: 0, datasource, enable: true, hide: false, iconColor: 'red', name: 'Alerts', step: '30s', titleFormat: '{{alertname}}', textFormat: '{{pod}} {{partition}}',
        expr: `ALERTS{alertname=~"Carillon.*",alertstate="firing",${N}} == 1`,
      }],
    },
    links: [
      { type: 'dashboards', title: 'Carillon', tags: ['carillon'], asDropdown: true, includeVars: true, keepTime: true, targetBlank: false, icon: 'external link', tooltip: 'The other dashboards', url: '' },
    ],
    templating: {
      list: [
        { name: 'datasource', label: 'Prometheus', description: 'Where the metrics are', type: 'datasource', query: 'prometheus', current: {}, options: [], refresh: 1, regex: '', hide: 0, includeAll: false, multi: false, skipUrlSync: false },
        variable('namespace', 'Namespace', 'label_values(carillon_build_info, namespace)', 'Where it is installed'),
        variable('job', 'Release', 'label_values(carillon_build_info{namespace=~"$namespace"}, job)', 'The scrape job: one for each release'),
        variable('pod', 'Pod', 'label_values(carillon_build_info{namespace=~"$namespace",job=~"$job"}, pod)', 'Some pods only'),
      ],
    },
    panels: place(sections),
  };
}
