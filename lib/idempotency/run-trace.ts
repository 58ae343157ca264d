/**
 * The part of a run's record that its successors go on with. A run has one once it has a step, or
 * from the beginning where `onAbandoned` is not `run`.
 */
export interface RunTrace {
  /** The time that the record outlives its run, in milliseconds. */
  readonly retentionMs: number;
  /** Counts the runs that went on with the same work, from 1. */
  readonly attempt: number;
  /** True if the run before died, and nobody has judged that yet. */
  readonly isAbandoned: boolean;
  readonly hasSteps: boolean;
  /**
   * Names the first of these runs. Its steps bear the name too, so that those of another are not
   * taken for them.
   */
  readonly lineage: string;
  /**
   * Tells the keys for third parties from those before `forget({ newKeys: true })`; empty until
   * then.
   */
  readonly keysEpoch: string;
  readonly operation: string;
}

/** The text in the record, without the `|` that separates the record's fields. */
export const traceText = (trace: RunTrace): string =>
  [
    trace.retentionMs,
    trace.attempt,
    trace.isAbandoned ? 1 : 0,
    trace.hasSteps ? 1 : 0,
    trace.lineage,
    trace.keysEpoch,
    encodeURIComponent(trace.operation),
  ].join(';');

/** Undefined for an empty trace. */
export function parseTrace(text: string): RunTrace | undefined {
  if (text === '') return undefined;
  const [retentionMs, attempt, isAbandoned, hasSteps, lineage = '', keysEpoch = '', operation = ''] =
    text.split(';');
  return {
    retentionMs: Number(retentionMs),
    attempt: Number(attempt),
    isAbandoned: isAbandoned === '1',
    hasSteps: hasSteps === '1',
    lineage,
    keysEpoch,
    operation: decodeURIComponent(operation),
  };
}
