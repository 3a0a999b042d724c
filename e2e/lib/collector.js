// A collector of traces that keeps what it is sent.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { Child } from './processes.js';
import { freePort } from './ports.js';
import { python } from './python.js';
import { until } from './until.js';

/**
 * @typedef {{ service: string, name: string, kind: string, trace: string, id: string, parent: string, start: number, end: number,
 *   status: string, links: { trace: string, id: string }[], attributes: Record<string, any> }} Span
 */

export class Collector extends Child {
  /** @param {string} [address] of this machine, where those it collects from reach it */
  static async start(address = '127.0.0.1') {
    const port = await freePort();
    const script = fileURLToPath(new URL('./collector.py', import.meta.url));
    const collector = new Collector(`collector-${port}`, python, [script, `${address}:${port}`]);
    collector.endpoint = `http://${address}:${port}`;
    await until(`the collector collects; its log: ${collector.log}`, () => collector.output().includes('collecting'));
    return collector;
  }

  /** @returns {Span[]} all spans so far */
  spans() {
    const lines = this.output().split('\n').slice(0, -1);
    return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  }

  /** The spans of a trace. */
  of(trace) {
    return this.spans().filter((span) => span.trace === trace);
  }

  /** Spans of a trace, by name. */
  byName(trace) {
    const tree = {};
    for (const span of this.of(trace)) (tree[span.name] ??= []).push(span);
    return tree;
  }

  /**
   * Waits for a trace to have so many spans of each name, and gives them by name. It has no more of them and no others,
   * also when all that has ended by then is here: `caughtUp`, which the suite sets, waits for that.
   */
  async tree(trace, counts) {
    await until(`trace ${trace} has ${JSON.stringify(counts)}; the collector's log: ${this.log}`, () => {
      const tree = this.byName(trace);
      return Object.entries(counts).every(([name, count]) => (tree[name]?.length ?? 0) >= count);
    });
    await this.caughtUp();
    const tree = this.byName(trace);
    const found = Object.fromEntries(Object.entries(tree).map(([name, spans]) => [name, spans.length]));
    assert.deepEqual(found, counts, `trace ${trace} has exactly these spans; the collector's log: ${this.log}`);
    return tree;
  }
}
