import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { root as repository, runAsMain, ScriptError } from './setup/process.mjs';
import { guaranteeId, specsByGuarantee } from './guarantees/specs-by-guarantee.mjs';
import { misfitsOf, readNamed } from './mutants/named.mjs';

/**
 * A heading, list item, table cell or paragraph that begins with a bold id: "- **TX-1** …", "###
 * **TX-1.** …".
 */
const declaration = new RegExp(`^\\s*(?:#{1,6}\\s+|[-*+]\\s+|\\d+\\.\\s+|\\|\\s*)?\\*\\*(${guaranteeId})\\b`);
const documentPath = 'docs/guarantees.md';
const heading = '## Where each is tested';

const usage = `Usage: npm run guarantees [-- --write | ID…]
  Checks that each guarantee of docs/guarantees.md has a test, each test's guarantee is declared,
  and each mutant of test/mutants/named.json still fits the code and its test.
  --write  writes the list of specs
  ID       prints the specs of these guarantees`;

/**
 * Checks that every guarantee has a test, every test's guarantee is declared, every named mutant
 * fits, and the document's list of spec files is right. `--write` writes that list; ids as arguments print their spec files.
 */
await runAsMain(import.meta.url, usage, () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { root: { type: 'string', default: repository }, write: { type: 'boolean', default: false } },
  });
  const root = resolve(values.root);
  const specs = specsByGuarantee(root);
  if (positionals.length > 0) return print(specs, positionals);

  const file = join(root, documentPath);
  const text = read(file);
  const declared = text.split('\n').flatMap((line) => declaration.exec(line)?.[1] ?? []);
  const withList = `${text.split(`\n${heading}\n`, 1)[0].trimEnd()}\n\n${listOf(declared, specs)}`;
  if (values.write) writeFileSync(file, withList);
  const problems = [
    ...declared
      .filter((id, index) => declared.indexOf(id) !== index)
      .map((id) => `${id} is declared twice in ${documentPath}`),
    ...[...new Set(declared)]
      .filter((id) => !specs.has(id))
      .map((id) => `${id} has no test with [${id}] in its title`),
    ...[...specs]
      .filter(([id]) => !declared.includes(id))
      .map(([id, [first]]) => `${id} is tested in ${first}, but is not in ${documentPath}`),
    ...readNamed(root).flatMap((mutant) => misfitsOf(mutant, root)),
  ];
  if (declared.length === 0) problems.push(`${documentPath} declares no guarantee`);
  else if (problems.length === 0 && !values.write && text !== withList)
    problems.push(`"${heading}" in ${documentPath} is out of date: npm run guarantees -- --write`);
  if (problems.length > 0)
    throw new ScriptError(`Guarantees and tests disagree:\n  - ${problems.join('\n  - ')}`);
  console.log(`${declared.length} guarantees, each with a test.`);
});

function print(specs, ids) {
  for (const id of ids) {
    if (!specs.has(id)) throw new ScriptError(`No test carries [${id}] in its title.`);
    for (const spec of specs.get(id)) console.log(spec);
  }
}

/** One list for each id. Spec files are named without their common folder and ending. */
function listOf(declared, specs) {
  const link = (spec) => `  - [${spec.replace(/^test\//, '').replace(/\.spec\.ts$/, '')}](../${spec})`;
  const rows = declared.flatMap((id) => [`- ${id}`, ...[...(specs.get(id) ?? [])].map(link)]);
  return [heading, '', '`npm test -- TX-1` runs the tests of a guarantee.', '', ...rows, ''].join('\n');
}

function read(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') throw new ScriptError(`${file} is missing`);
    throw error;
  }
}
