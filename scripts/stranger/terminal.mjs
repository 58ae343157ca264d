import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { ScriptError } from '../setup/process.mjs';

const startWithinMs = 60_000;
const serves = /^node /;

/**
 * Runs commands in a folder, one after the other. A server continues in the background, as in a
 * terminal of its own.
 */
export class Terminal {
  /** Output of the latest commands other than curl. */
  lastOutput = '';
  #server;

  constructor(folder, env) {
    this.folder = folder;
    this.env = {
      ...env,
      npm_config_audit: 'false',
      npm_config_fund: 'false',
      npm_config_prefer_offline: 'true',
    };
  }

  async type(command) {
    if (serves.test(command)) return await this.#serve(command);
    const { child, output } = this.#start(command);
    const [code] = await once(child, 'close');
    if (code !== 0) throw new ScriptError(`$ ${command}\n${output()}\nExit code: ${code}`);
    this.lastOutput = `${command.startsWith('curl') ? this.lastOutput : ''}${output()}\n`;
  }

  async close() {
    if (!this.#server) return;
    this.#server.kill('SIGTERM');
    await once(this.#server, 'close');
  }

  async #serve(command) {
    // In place of the shell, so that a signal reaches it.
    const { child, output } = this.#start(`exec ${command}`);
    this.#server = child;
    const deadline = Date.now() + startWithinMs;
    const { PORT } = this.env;
    while (!(await fetch(`http://127.0.0.1:${PORT}`).catch(() => undefined))) {
      if (child.exitCode !== null || Date.now() > deadline)
        throw new ScriptError(`$ ${command}\ndoes not serve at port ${PORT}:\n${output()}`);
      await sleep(50);
    }
    this.lastOutput = '';
  }

  #start(command) {
    const child = spawn(command, {
      cwd: this.folder,
      env: this.env,
      shell: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (chunk) => (stdout += chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk) => (stderr += chunk));
    return { child, output: () => (child.exitCode === 0 ? stdout : stdout + stderr) };
  }
}
