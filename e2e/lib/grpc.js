// A Python client of carillon.v1, generated from the .proto alone.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { python, runPython } from './python.js';

const script = fileURLToPath(new URL('./grpc_client.py', import.meta.url));
const environment = (env) => ({ ...process.env, PYTHONDONTWRITEBYTECODE: '1', GRPC_VERBOSITY: 'NONE', ...env });

/** Runs one command of the client to its end and gives what it printed. */
export async function grpc(command, address, argument, env = {}) {
  const text = typeof argument === 'string' ? argument : JSON.stringify(argument);
  return JSON.parse(await runPython(script, [command, address, text], { env: environment(env) }));
}

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** A command that goes on until the server ends it; what it printed so far is in `lines`. */
export class OpenCall {
  constructor(command, address, argument, env = {}) {
    const text = typeof argument === 'string' ? argument : JSON.stringify(argument);
    this.output = '';
    this.complaints = '';
    this.process = spawn(python, [script, command, address, text], { env: environment(env), stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this.process);
    this.process.stdout.setEncoding('utf8').on('data', (part) => { this.output += part; });
    this.process.stderr.setEncoding('utf8').on('data', (part) => { this.complaints += part; });
    this.ended = new Promise((resolve) => {
      this.process.once('close', (code) => {
        running.delete(this.process);
        resolve(code);
      });
    });
  }

  get lines() {
    return this.output.split('\n').slice(0, -1).map((line) => JSON.parse(line));
  }
}
