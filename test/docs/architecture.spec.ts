import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { textOf } from './examples.js';

const ROOT = path.join(__dirname, '../..');
const PAGE = 'docs/architecture.md';

/** The most files that a reader opens to follow each way. */
const MOST_FILES = {
  'The way of a POST with @Idempotent': 20,
  'The way of a transaction': 18,
  'The way of an addition': 10,
};

/** Imports that the page names as going up a layer. */
const UPWARDS = [
  'lib/connection/connections.ts → lib/scripting/key-space.ts',
  'lib/connection/redis-connection.ts → lib/scripting/key-space.ts',
  'lib/connection/redis-connection.ts → lib/scripting/script-batch.ts',
  'lib/connection/redis-connection.ts → lib/scripting/script.ts',
  'lib/connection/server-check.ts → lib/scripting/key-space.ts',
  'lib/connection/server-status.ts → lib/scripting/script.ts',
  'lib/limits/rate-limit-guard.ts → lib/atomic-redis.ts',
  'lib/method-wrapping/stand-in.ts → lib/counters/counter-result.ts',
  'lib/method-wrapping/wrap-method.ts → lib/atomic-redis.ts',
];

/**
 * Returns the findings of the scripts of `npm run house`, as JSON. They are ES modules, so a
 * process of their own runs them.
 */
function found(): {
  ways: { title: string; files: string[]; unreachable: string[] }[];
  cycles: string[][];
  upwards: string[];
} {
  const program = `
    import { cyclesOf, filesOf, importsOf, upwardImports } from './scripts/house/source.mjs';
    import { unreachable, waysOf } from './scripts/house/ways.mjs';
    const imports = importsOf('.', filesOf('.', 'lib'));
    const ways = waysOf('.').map((way) => ({ ...way, unreachable: unreachable(way, imports) }));
    console.log(JSON.stringify({ ways, cycles: cyclesOf(imports), upwards: upwardImports(imports) }));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as ReturnType<typeof found>;
}

describe('the page of the architecture', () => {
  const { ways, cycles, upwards } = found();

  it('[DOC-8] names no path that does not exist', () => {
    const named = [...textOf(PAGE).matchAll(/`((?:lib|test|scripts|docs)\/[^`\s]+)`/g)].map(
      ([, file]) => file!,
    );
    expect(named.filter((file) => !existsSync(path.join(ROOT, file)))).toEqual([]);
    expect(named.length).toBeGreaterThan(50);
  });

  it('[DOC-8] lists paths through the code that a reader can follow from import to import, over few files', () => {
    expect(ways.flatMap(({ unreachable }) => unreachable)).toEqual([]);
    expect(ways.map(({ title }) => title)).toEqual(Object.keys(MOST_FILES));
    for (const { title, files } of ways)
      expect(files.length).toBeLessThanOrEqual(MOST_FILES[title as keyof typeof MOST_FILES]);
  });

  it('[DOC-8] describes the layers correctly: imports go up only where the page names them, and never in a cycle', () => {
    expect(upwards.filter((one) => !UPWARDS.includes(one))).toEqual([]);
    expect(cycles).toEqual([]);
  });
});
