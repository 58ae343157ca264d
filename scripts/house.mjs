import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { root as repository, runAsMain, ScriptError } from './setup/process.mjs';
import {
  codeLines,
  cyclesOf,
  duplicatesOf,
  exportedNames,
  filesOf,
  importsOf,
  namesByCapability,
  upwardImports,
} from './house/source.mjs';
import { unreachable, waysOf } from './house/ways.mjs';

const usage = `Usage: npm run house [-- DIRECTORY] [--trace]
  Counts what makes the code easy or hard to enter.
  DIRECTORY  another checkout
  --trace    runs the built package, and prints the files whose code runs for each way`;

/**
 * Counts what makes the code easy or hard to enter: `npm run house`. A directory as argument counts
 * another checkout. `--trace` runs the built package, and prints the files whose code runs for each
 * way.
 */
await runAsMain(import.meta.url, usage, async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { trace: { type: 'boolean', default: false } },
  });
  const root = resolve(positionals[0] ?? repository);
  const imports = importsOf(root, filesOf(root, 'lib'));
  const ways = waysOf(root);

  const broken = ways.flatMap((way) => unreachable(way, imports).map((file) => `${way.title}: ${file}`));
  for (const { title, files } of ways) row(title, `${files.length} files`);
  row('Import cycles', cyclesOf(imports).length);
  row('Imports that go up a layer', upwardImports(imports).length);
  const code = new Map();
  for (const folder of ['lib', 'test']) {
    const files = filesOf(root, folder);
    let count = 0;
    for (const file of files) {
      const lines = codeLines(root, file);
      code.set(file, lines);
      count += lines.length;
    }
    row(`Lines of code in ${folder}/`, `${count} in ${files.length} files`);
  }
  row('Blocks of six or more lines that stand twice', duplicatesOf(code));
  const names = exportedNames(root);
  for (const [entry, exported] of names) row(`Names that ${entry} exports`, exported.length);
  const { all, counts, rest } = namesByCapability(names);
  row('Exported names', all);
  for (const [capability, count] of counts) row(`  of ${capability}`, count);
  row('  of everything else', rest);

  if (broken.length > 0)
    throw new ScriptError(`No earlier file of the way imports:\n  - ${broken.join('\n  - ')}`);
  if (values.trace) await printTrace(ways);
});

function row(title, value) {
  console.log(`${title.padEnd(46)} ${value}`);
}

async function printTrace(ways) {
  const { setup } = await import('./setup.mjs');
  const { build } = await import('./build.mjs');
  Object.assign(process.env, await setup({ needServer: true, ownServer: true }));
  await build();
  const { traceWays } = await import('./house/trace.mjs');
  for (const traced of await traceWays()) {
    /** @type {{ title: string, ran: string[] }} */
    const { title, ran } = traced;
    const listed = ways.find((one) => one.title === title)?.files ?? [];
    console.log(`\n${title}: code of ${ran.length} files ran`);
    for (const file of ran) console.log(`  ${listed.includes(file) ? 'on the way' : '          '}  ${file}`);
    for (const file of listed) if (!ran.includes(file)) console.log(`  holds Lua   ${file}`);
  }
}
