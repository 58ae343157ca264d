import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';

/**
 * Runs on the Node.js that Stryker needs: `node stryker-mutator.mjs <directory of its packages>`, with `[{ path, text }]` on
 * standard input. Prints for each file its text with every mutant in it, asleep, and the mutants of all.
 */
const entry = join(process.argv[2], 'node_modules/@stryker-mutator/instrumenter/dist/src/index.js');
const { Instrumenter } = await import(pathToFileURL(entry).href);
const logger = new Proxy({}, { get: (_, name) => () => (name.startsWith('is') ? false : undefined) });
const files = await json(process.stdin);

const instrumented = await new Instrumenter(logger).instrument(
  files.map(({ path, text }) => ({ name: path, content: text, mutate: true })),
  // Excluded: the texts of errors, mostly; and the Lua, which has a mutator of its own.
  { plugins: null, excludedMutations: ['StringLiteral'], ignorers: [], noHeader: false },
);
process.stdout.write(
  JSON.stringify({
    texts: Object.fromEntries(instrumented.files.map(({ name, content }) => [name, content])),
    mutants: instrumented.mutants.filter(({ status }) => status !== 'Ignored'),
  }),
);
