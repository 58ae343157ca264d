import { readFileSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { format } from 'prettier';

const file = new URL('../../test/slow-specs.json', import.meta.url);
const SLOW_SECONDS = 10;

/**
 * Seconds by path of the specs that are slow. Nearly all of their time they wait for servers,
 * leases and time-outs.
 */
export const slowSpecs = JSON.parse(readFileSync(file, 'utf8'));

/** The path of a spec as the list has it, on each system. */
export const specPath = (root, path) => relative(root, path).replaceAll('\\', '/');

/** Keeps the list: `npm test -- --record-times`. */
export async function recordSlowSpecs(secondsBySpec) {
  const slow = Object.entries(secondsBySpec)
    .filter(([, seconds]) => seconds >= SLOW_SECONDS)
    .toSorted(([, a], [, b]) => b - a);
  writeFileSync(file, await format(JSON.stringify(Object.fromEntries(slow)), { parser: 'json' }));
}
