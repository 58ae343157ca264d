import { locked } from './lock.mjs';
import { installPackage } from './package-manager.mjs';
import { output, ScriptError } from './process.mjs';
import { which } from './redis-binary.mjs';

const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome'];

/**
 * The path of a Chromium or Chrome, installed if need be; null when there is none to be had: the
 * browser tests are then skipped, and counted as skipped.
 */
export async function setUpChromium() {
  const chosen = process.env.CHROMIUM_BIN;
  if (chosen) {
    if (!isBrowser(chosen)) throw new ScriptError(`CHROMIUM_BIN does not help: ${chosen} --version fails.`);
    return chosen;
  }
  return find() ?? locked(findOrInstall);
}

async function findOrInstall() {
  const before = find();
  if (before) return before;
  const obstacles = await installPackage('chromium');
  const after = find();
  if (!after) console.error(['No Chromium: the browser tests are skipped.', ...obstacles].join('\n  - '));
  return after;
}

const find = () => names.map(which).find((path) => path && isBrowser(path)) ?? null;

/** On some systems the command only says how to install one. */
const isBrowser = (path) => /Chrom/.test(output(path, ['--version']) ?? '');
