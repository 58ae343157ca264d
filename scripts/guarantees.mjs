import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { root as repository, runAsMain, ScriptError } from './setup/process.mjs';
import { titlesIn } from './guarantees/test-titles.mjs';

const id = '(?:[A-Z]{2,6}-\\d+[a-z]?|G\\d+)';
/** A heading, list item, table cell or paragraph that begins with a bold id: "- **TX-1** …", "### **TX-1.** …". */
const declaration = new RegExp(`^\\s*(?:#{1,6}\\s+|[-*+]\\s+|\\d+\\.\\s+|\\|\\s*)?\\*\\*(${id})\\b`);
const reference = new RegExp(`\\[(${id})\\]`, 'g');
const documentPath = 'docs/guarantees.md';

await runAsMain(import.meta.url, () => {
  const { values } = parseArgs({ options: { root: { type: 'string', default: repository } } });
  const root = resolve(values.root);
  const declared = declaredIn(join(root, documentPath));
  const tested = referencedIn(root);
  const problems = [
    ...declared
      .filter((one, index) => declared.indexOf(one) !== index)
      .map((one) => `${one} is declared twice in ${documentPath}`),
    ...[...new Set(declared)]
      .filter((one) => !tested.has(one))
      .map((one) => `${one} has no test with [${one}] in its title`),
    ...[...tested]
      .filter(([one]) => !declared.includes(one))
      .map(([one, file]) => `${one} is tested in ${file}, but is not in ${documentPath}`),
  ];
  if (declared.length === 0) problems.push(`${documentPath} declares no guarantee`);
  if (problems.length > 0)
    throw new ScriptError(`Guarantees and tests disagree:\n  - ${problems.join('\n  - ')}`);
  console.log(`${declared.length} guarantees, each with a test.`);
});

function declaredIn(file) {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .flatMap((line) => declaration.exec(line)?.[1] ?? []);
  } catch (error) {
    if (error.code === 'ENOENT') throw new ScriptError(`${file} is missing`);
    throw error;
  }
}

/** Id to the first file that has a test for it. */
function referencedIn(root) {
  const found = new Map();
  for (const file of specsIn(root, 'test')) {
    for (const title of titlesIn(readFileSync(join(root, file), 'utf8'), file)) {
      for (const [, one] of title.matchAll(reference)) if (!found.has(one)) found.set(one, file);
    }
  }
  return found;
}

function specsIn(root, directory) {
  return readdirSync(join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = `${directory}/${entry.name}`;
    if (entry.isDirectory()) return specsIn(root, path);
    return path.endsWith('.spec.ts') ? [path] : [];
  });
}
