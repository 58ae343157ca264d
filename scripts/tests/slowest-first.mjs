import { relative } from 'node:path';
import TestSequencer from '@jest/test-sequencer';
import { slowSpecs } from './slow-specs.mjs';

/** Starts the slowest specs first, so that none of them is left running alone at the end. */
export default class SlowestFirst extends TestSequencer {
  sort(tests) {
    const secondsOf = ({ path, context }) => slowSpecs[relative(context.config.rootDir, path)] ?? 0;
    // oxlint-disable-next-line unicorn/no-array-sort -- the sequencer's own method, no array's
    return super.sort(tests).toSorted((a, b) => secondsOf(b) - secondsOf(a));
  }
}
