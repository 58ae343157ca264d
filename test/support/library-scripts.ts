import { readdirSync } from 'node:fs';
import path from 'node:path';
import { ALL_OPERATIONS } from '../../lib/atomic-redis.operations.js';
import type { Script } from '../../lib/scripting/script.js';

const LIB = path.join(__dirname, '../../lib');

/**
 * The scripts of features with a path of their own, by the file each is in: all `*.script.ts` under
 * lib.
 */
const SCRIPTS_OF_FILES = readdirSync(LIB, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.script.ts'))
  .toSorted()
  .flatMap((file) =>
    // oxlint-disable-next-line typescript/no-require-imports -- which files there are is known only now
    Object.values(require(path.join(LIB, file)) as Record<string, Partial<Script> | undefined>)
      .filter((value): value is Script => typeof value?.sha === 'string')
      .map((script) => [file, script] as const),
  );

/** The scripts of operations, by their names. Operations may share one. */
const SCRIPTS_OF_OPERATIONS = [...new Set(ALL_OPERATIONS.map(({ script }) => script))].map(
  (script) => [script.name, script] as const,
);

/** Every script of the library. */
export const LIBRARY_SCRIPTS: readonly (readonly [title: string, script: Script])[] = [
  ...SCRIPTS_OF_OPERATIONS,
  ...SCRIPTS_OF_FILES,
];
