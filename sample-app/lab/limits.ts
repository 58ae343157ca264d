/** No call of a run begins later, unless the run says so. */
export const CALLS_MS = 12_000;

/** The most that a run may say. */
export const LONGEST_CALLS_MS = 60_000;

/** A call without an answer is given up this much later. */
export const GRACE_MS = 4_000;
