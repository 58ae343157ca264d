import { locked } from './lock.mjs';
import { installPackage } from './package-manager.mjs';
import { output } from './process.mjs';

/**
 * Installs curl if there is none: a test has it repeat requests. Without it only that test fails,
 * and says why.
 */
export async function setUpCurl() {
  if (hasCurl()) return;
  await locked(async () => {
    if (hasCurl()) return;
    const obstacles = await installPackage('curl');
    if (!hasCurl()) console.error(['No curl: one test will fail.', ...obstacles].join('\n  - '));
  });
}

const hasCurl = () => output('curl', ['--version']) !== null;
