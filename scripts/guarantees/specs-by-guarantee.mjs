import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { titlesIn } from './test-titles.mjs';

export const guaranteeId = '(?:[A-Z]{2,6}-\\d+[a-z]?|G\\d+)';
const reference = new RegExp(`\\[(${guaranteeId})\\]`, 'g');

/** Each guarantee's id that a test's title carries, with the spec files of those tests. */
export function specsByGuarantee(root) {
  const found = new Map();
  for (const file of specsIn(root, 'test')) {
    for (const title of titlesIn(readFileSync(join(root, file), 'utf8'), file)) {
      for (const [, id] of title.matchAll(reference)) {
        if (!found.has(id)) found.set(id, new Set());
        found.get(id).add(file);
      }
    }
  }
  return found;
}

function specsIn(root, directory) {
  return readdirSync(join(root, directory), { withFileTypes: true })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = `${directory}/${entry.name}`;
      if (entry.isDirectory()) return specsIn(root, path);
      return path.endsWith('.spec.ts') ? [path] : [];
    });
}
