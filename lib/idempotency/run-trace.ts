/**
 * The part of a run's record that its successors continue. A run has one once it has a step, or
 * from the beginning where `onAbandoned` is not `run`.
 */
export interface RunTrace {
  /** The time that the record outlives its run, in milliseconds. */
  readonly retentionMs: number;
  /** Number of this run among those that did the same work, from 1. */
  readonly attempt: number;
  /** True if the run before died, and no policy has judged that yet. */
  readonly isAbandoned: boolean;
  readonly hasSteps: boolean;
  /**
   * Names the first of these runs. Its steps carry the name too, so that another run's steps are
   * not mistaken for them.
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
export const traceText = (trace: RunTrace): string => {
  const { retentionMs, attempt, lineage, keysEpoch, operation } = trace;
  const flags = `${trace.isAbandoned ? 1 : 0};${trace.hasSteps ? 1 : 0}`;
  return `${retentionMs};${attempt};${flags};${lineage};${keysEpoch};${encodeURIComponent(operation)}`;
};

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
