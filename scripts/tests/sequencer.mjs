import { availableParallelism, totalmem } from 'node:os';
import TestSequencer from '@jest/test-sequencer';
import { slowSpecs, specPath } from './slow-specs.mjs';

/** A worker with its servers. */
const WORKER_BYTES = 2 ** 30;

/**
 * Workers of a run of everything, five for each two processors if memory lasts: while some wait with
 * slow specs, the others use the processors. With more, processes stand still for so long that tests
 * of short times fail.
 */
export const WORKERS = Math.max(
  2,
  Math.min(Math.floor(2.5 * availableParallelism()), Math.floor(totalmem() / WORKER_BYTES)),
);

/** Slow specs mostly wait: two of them together need less than one processor. */
const SLOW_AT_ONCE = Math.ceil(WORKERS / 2);

/**
 * Orders specs as they would start if slow ones had workers of their own. Those begin with the
 * slowest, so that none is left running alone at the end. The others are spread over all that time.
 */
export default class Sequencer extends TestSequencer {
  sort(tests) {
    const secondsOf = ({ path, context }) => slowSpecs[specPath(context.config.rootDir, path)] ?? 0;
    // oxlint-disable-next-line unicorn/no-array-sort -- the sequencer's own method, no array's
    const sorted = super.sort(tests).toSorted((a, b) => secondsOf(b) - secondsOf(a));
    const free = Array.from({ length: SLOW_AT_ONCE }, () => 0);
    const starts = new Map();
    for (const test of sorted.filter(secondsOf)) {
      const first = free.indexOf(Math.min(...free));
      starts.set(test, free[first]);
      free[first] += secondsOf(test);
    }
    const others = sorted.filter((test) => !starts.has(test));
    for (const [i, test] of others.entries()) starts.set(test, (i / others.length) * Math.max(...free));
    return sorted.toSorted((a, b) => starts.get(a) - starts.get(b));
  }
}
