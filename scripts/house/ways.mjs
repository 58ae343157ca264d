import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const PAGE = 'docs/architecture.md';

/** Returns the ways that the page of the architecture lists, with their files in order. */
export function waysOf(root) {
  const file = join(root, PAGE);
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split(/^## /m)
    .slice(1)
    .map((section) => ({
      title: section.split('\n', 1)[0],
      files: [...section.matchAll(/^\d+\. `(lib\/[^`]+)`/gm)].map(([, path]) => path),
    }))
    .filter(({ files }) => files.length > 0);
}

/** Holds the services of a registration. A decorator reaches its service through it. */
const FACADE = 'lib/atomic-redis.ts';

/**
 * Returns the files of a way that no earlier file of it imports, by itself or through the façade:
 * control cannot get there as the list says. The first file is where the way begins.
 */
export function unreachable({ files }, imports) {
  return files.filter((file, at) => {
    const known = files.slice(0, at).flatMap((earlier) => imports.get(earlier) ?? []);
    if (known.includes(FACADE)) known.push(...(imports.get(FACADE) ?? []));
    return at > 0 && !known.includes(file);
  });
}
