/** No call of a run begins later. */
export const LONGEST_CALLS_MS = 12_000;

/** A call without an answer is given up then. */
export const RUN_MS = 16_000;
