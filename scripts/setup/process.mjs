import { spawn, spawnSync } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';

/** A failure whose message says all a person needs: shown without a stack. */
export class ScriptError extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.name = 'ScriptError';
    this.exitCode = exitCode;
  }
}

export const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Runs `main` when the module is the one node was started with. Its return value, if a number, is
 * the exit code. `--help` prints the usage, before anything is set up.
 */
export async function runAsMain(moduleUrl, usage, main) {
  if (!process.argv[1] || realpathSync(process.argv[1]) !== fileURLToPath(moduleUrl)) return;
  if (process.argv.some((arg) => arg === '--help' || arg === '-h')) {
    console.log(usage);
    return;
  }
  try {
    const code = await main();
    if (typeof code === 'number') process.exitCode = code;
  } catch (error) {
    const isMisused = error.code?.startsWith('ERR_PARSE_ARGS_');
    if (!isMisused && !(error instanceof ScriptError)) throw error;
    console.error(isMisused ? `${error.message}\n${usage}` : `\n${error.message}`);
    process.exitCode = error.exitCode ?? 1;
  }
}

/**
 * Starts a command, passes SIGINT and SIGTERM on to it, and resolves with its exit code (128 + n
 * for signal n).
 */
export function start(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', ...options });
    const forward = (signal) => child.kill(signal);
    const settle = (act) => {
      process.off('SIGINT', forward).off('SIGTERM', forward);
      act();
    };
    process.on('SIGINT', forward).on('SIGTERM', forward);
    child.once('error', (error) =>
      settle(() => reject(new ScriptError(`Cannot start "${show(command, args)}": ${error.message}`))),
    );
    child.once('exit', (code, signal) => settle(() => resolve(code ?? 128 + constants.signals[signal])));
  });
}

/** As `start`, and anything but exit code 0 is an error that names the command. */
export async function run(command, args, options) {
  const code = await start(command, args, options);
  if (code !== 0) {
    throw new ScriptError(
      `Command failed: ${show(command, args)}\nExit code: ${code}`,
      code > 128 ? code : 1,
    );
  }
}

/** The trimmed output of a short command, or null when it cannot run or fails. */
export function output(command, args, options) {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 10_000,
    ...options,
  });
  return result.status === 0 ? result.stdout.trim() : null;
}

function show(command, args) {
  return [command, ...args]
    .map((part) => (/^[\w@%+=:,./\\-]+$/.test(part) ? part : JSON.stringify(part)))
    .join(' ');
}
