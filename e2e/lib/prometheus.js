// A real Prometheus that scrapes what runs and evaluates the chart's rules, quicker than in production.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePort } from './ports.js';
import { Child } from './processes.js';
import { until } from './until.js';

const rulesFolder = path.resolve(import.meta.dirname, '../../helm/carillon/rules');

/** The chart's rule files. */
export const ruleFiles = () => fs.readdirSync(rulesFolder).filter((name) => name.endsWith('.yaml')).map((name) => path.join(rulesFolder, name));

/**
 * What makes rules quick enough for a test, and nothing else: groups are evaluated each second, an alert need hold for
 * two seconds only, and windows of minutes are 15 seconds. Thresholds, hours and days stay as they are.
 */
export const hurried = (rules) => rules
  .replace(/^([\s-]+interval:) .*$/gm, '$1 1s')
  .replace(/^([\s-]+for:) .*$/gm, '$1 2s')
  .replace(/\[\d+m\]/g, '[15s]');

/** The chart's rules as they stand in its files: name → text. */
const standing = () => new Map(ruleFiles().map((file) => [path.basename(file), fs.readFileSync(file, 'utf8')]));

/**
 * @typedef {{ address: string, path?: string, pod?: string, labels?: Record<string, string> }} Target
 *   `host:port` of what is scraped, its path if that is not `/metrics`, and the labels that it is known by: all of them,
 *   or its `pod` beside a namespace
 */

/** @param {string} folder @param {Target[]} targets */
function scrape(folder, targets) {
  const file = path.join(folder, 'targets.json');
  const found = targets.map(({ address, path: metrics = '/metrics', pod, labels = { namespace: 'push', pod } }) => ({ targets: [address], labels: { __metrics_path__: metrics, ...labels } }));
  // It must not be read half written.
  fs.writeFileSync(`${file}.new`, JSON.stringify(found));
  fs.renameSync(`${file}.new`, file);
}

export class Prometheus extends Child {
  /**
   * @param {Target[]} targets
   * @param {Map<string, string>} [texts] rule files by name, those of the chart if not said; they are hurried
   */
  static async start(targets, texts = standing()) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-prometheus-'));
    const rules = [...texts].map(([name, text]) => {
      const copy = path.join(folder, name);
      fs.writeFileSync(copy, hurried(text));
      return copy;
    });
    // JSON is YAML.
    fs.writeFileSync(path.join(folder, 'prometheus.yml'), JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: rules,
      scrape_configs: [{ job_name: 'carillon', file_sd_configs: [{ files: [path.join(folder, 'targets.json')] }] }],
    }));
    scrape(folder, targets);
    const port = await freePort();
    const prometheus = new Prometheus(`prometheus-${port}`, 'prometheus', [
      `--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`, `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn', '--storage.tsdb.retention.time=1d',
    ]);
    prometheus.url = `http://127.0.0.1:${port}`;
    prometheus.folder = folder;
    await until(`prometheus is ready; its log: ${prometheus.log}`, async () => (await fetch(`${prometheus.url}/-/ready`)).ok);
    return prometheus;
  }

  /** Scrapes these from now on, and no others. */
  scrape(targets) {
    scrape(this.folder, targets);
  }

  async api(what, parameters = {}) {
    const answer = await (await fetch(`${this.url}/api/v1/${what}?${new URLSearchParams(parameters)}`)).json();
    if (answer.status !== 'success') throw new Error(`${JSON.stringify(parameters)}: ${answer.error}`);
    return answer.data;
  }

  /** The series of an expression. */
  async query(expression) {
    return (await this.api('query', { query: expression })).result;
  }

  /**
   * Waits until each expression has data: a series at least, whose value is a number.
   * @param {Map<string, string>} expressions and where each stands
   */
  async haveData(expressions, milliseconds = 60_000) {
    const empty = new Map(expressions);
    await until('all have data', async () => {
      for (const expression of empty.keys()) {
        const result = await this.query(expression);
        if (result.some(({ value }) => value[1] !== 'NaN')) empty.delete(expression);
      }
      return empty.size === 0;
    }, milliseconds).catch((error) => {
      throw new Error(`without data:\n${[...empty].map(([expression, where]) => `${where}\n    ${expression}`).join('\n')}`, { cause: error });
    });
  }

  /** Waits until each selector finds a series, by now or within a time before. */
  haveSeries(selectors, within) {
    const counted = (selector) => (within ? `count(count_over_time(${selector}[${within}]))` : `count(${selector})`);
    return this.haveData(new Map([...selectors].map(([selector, where]) => [counted(selector), where])));
  }

  /** The rules as Prometheus has read them. */
  async rules() {
    return (await this.api('rules')).groups.flatMap(({ rules }) => rules);
  }

  /** Labels of the alerts of a name that fire. */
  async firing(name) {
    const { alerts } = await this.api('alerts');
    return alerts.filter(({ labels, state }) => state === 'firing' && labels.alertname === name).map(({ labels }) => labels);
  }

  async remove() {
    await this.kill();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}
