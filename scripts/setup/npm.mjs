import { run } from './process.mjs';

/** Runs the npm that runs us, else the one on PATH. */
export function runNpm(args, options) {
  const npmCli = process.env.npm_execpath;
  if (npmCli?.endsWith('npm-cli.js')) return run(process.execPath, [npmCli, ...args], options);
  if (process.platform === 'win32') return run('npm.cmd', args, { ...options, shell: true });
  return run('npm', args, options);
}
