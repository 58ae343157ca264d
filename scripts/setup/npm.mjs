import { output, run, ScriptError } from './process.mjs';

/** Runs the npm that runs us, else the one on PATH. */
export function runNpm(args, options) {
  const [command, ...all] = npm(args);
  return run(command, all, { ...options, shell: needsShell });
}

/** Runs npm and returns its output. */
export function outputOfNpm(args) {
  const [command, ...all] = npm(args);
  const printed = output(command, all, { timeout: 120_000, shell: needsShell });
  if (printed === null) throw new ScriptError(`Command failed: npm ${args.join(' ')}`);
  return printed;
}

/** npm.cmd is no program. */
const needsShell = process.platform === 'win32' && !process.env.npm_execpath?.endsWith('npm-cli.js');

function npm(args) {
  const npmCli = process.env.npm_execpath;
  if (npmCli?.endsWith('npm-cli.js')) return [process.execPath, npmCli, ...args];
  return [process.platform === 'win32' ? 'npm.cmd' : 'npm', ...args];
}
