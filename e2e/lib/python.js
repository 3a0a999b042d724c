// The Python that has the stock clients of e2e/requirements.txt.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const python = fileURLToPath(new URL('../.python/bin/python', import.meta.url));

/** Runs a script of ours to its end and gives what it printed; fails with what it complained about. */
export async function runPython(script, args = [], options = {}) {
  const { stdout } = await promisify(execFile)(python, [script, ...args], { timeout: 120_000, maxBuffer: 64 << 20, ...options });
  return stdout;
}
