import { readFileSync, writeFileSync } from 'node:fs';
import { format } from 'prettier';

const file = new URL('../../test/slow-specs.json', import.meta.url);
const SLOW_SECONDS = 12;

/** Seconds by path of the specs that are slow. Nearly all of their time they wait for servers, leases and time-outs. */
export const slowSpecs = JSON.parse(readFileSync(file, 'utf8'));

/** Keeps the list: `npm test -- --record-times`. */
export async function recordSlowSpecs(secondsBySpec) {
  const slow = Object.entries(secondsBySpec)
    .filter(([, seconds]) => seconds >= SLOW_SECONDS)
    .toSorted(([, a], [, b]) => b - a);
  writeFileSync(file, await format(JSON.stringify(Object.fromEntries(slow)), { parser: 'json' }));
}
