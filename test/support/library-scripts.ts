import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { Script } from '../../lib/redis/script.js';

const LIB = path.join(__dirname, '../../lib');

/** Every script of the library, by the file it is in: all `*.script.ts` under lib. */
export const LIBRARY_SCRIPTS = readdirSync(LIB, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.script.ts'))
  .toSorted()
  .flatMap((file) =>
    // oxlint-disable-next-line typescript/no-require-imports -- which files there are is known only now
    Object.values(require(path.join(LIB, file)) as Record<string, Partial<Script> | undefined>)
      .filter((value): value is Script => typeof value?.sha === 'string')
      .map((script) => [file, script] as const),
  );
