// A collector of traces that keeps what it is sent.
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
  static async start() {
    const port = await freePort();
    const script = fileURLToPath(new URL('./collector.py', import.meta.url));
    const collector = new Collector(`collector-${port}`, python, [script, `${port}`]);
    collector.endpoint = `http://127.0.0.1:${port}`;
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

  /** Waits for a trace to have so many spans of each name, and gives them by name. */
  async tree(trace, counts) {
    const byName = () => {
      const tree = {};
      for (const span of this.of(trace)) (tree[span.name] ??= []).push(span);
      return tree;
    };
    return until(`trace ${trace} has ${JSON.stringify(counts)}; the collector's log: ${this.log}`, () => {
      const tree = byName();
      return Object.entries(counts).every(([name, count]) => (tree[name]?.length ?? 0) >= count) && tree;
    });
  }
}
