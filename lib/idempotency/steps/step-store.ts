import type { DurabilityOptions } from '../../connection/durability.js';
import type { RedisConnection } from '../../connection/redis-connection.js';
import { Deadline } from '../../runtime/deadline.js';
import type { ScriptRunner } from '../../scripting/script-runner.js';
import type { Completion } from '../complete.script.js';
import type { HoldReason } from '../idempotency.errors.js';
import type { Owner } from '../run-lease.js';
import type { ResultSealer } from '../result-sealer.js';
import { completion, lastingHead, runningRecord } from '../record-text.js';
import { traceText, type RunTrace } from '../run-trace.js';
import { headed, type ResultKind, type StoredResult } from '../stored-result.js';
import { untilAccepted } from '../until-accepted.js';
import { finishScript } from './finish.script.js';
import { holdScript } from './hold.script.js';
import { keepStepScript, type StepKeeping } from './keep-step.script.js';
import { readStepsScript } from './read-steps.script.js';
import type { StepKeys } from './step-keys.js';
import { unmarkStepScript } from './unmark-step.script.js';
import { firstStepScript } from './first-step.script.js';
import { nextStepScript } from './next-step.script.js';

/** The stored state of a step: that it began, or its result as it is stored. */
export type StepEntry =
  { readonly state: 'begun' } | { readonly state: 'done'; readonly sealed: StoredResult };

/** The result of a step, and what is stored of it. */
export interface SealedResult {
  readonly result: StoredResult;
  readonly sealed: StoredResult;
}

/** A run as the scripts on its steps need it. */
export class StepsOwner {
  readonly trace: string;
  /** The record's text before and behind its time, once it has steps. */
  readonly head: string;
  readonly tail: string;

  /** @param keepMs the time to live of the steps, in milliseconds */
  constructor(
    readonly owner: Owner,
    readonly keys: StepKeys,
    readonly runTrace: RunTrace,
    readonly keepMs: number,
    readonly durability: DurabilityOptions | undefined,
  ) {
    this.trace = traceText(runTrace);
    this.head = lastingHead(owner);
    this.tail = `|${this.trace}|`;
  }
}

/** A step that began or ended, for the script that keeps it. */
export interface KeptStep {
  readonly step: string;
  /** True if some step is surely stored, so that a missing record was lost. */
  readonly hasSteps: boolean;
  /**
   * Set if nearly surely nothing but this run's own calls has changed the record: since its claim
   * (`first`), or since another of its steps was kept (`next`).
   */
  readonly usual: 'first' | 'next' | undefined;
  /**
   * Time to live of a record that vanished, in milliseconds; 0 if the run counts on its lease no
   * more.
   */
  readonly leaseMs: number;
}

/** Longer than anything in front of a result. */
const HEAD_BYTES = 64;

/**
 * The steps in Redis: the one place that sends their scripts, reads what they answer, and encrypts
 * what is in them.
 */
export class StepStore {
  constructor(
    connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly sealer: ResultSealer,
  ) {
    connection.preload([firstStepScript, nextStepScript, keepStepScript, unmarkStepScript, readStepsScript]);
    connection.preload([finishScript, holdScript]);
  }

  /**
   * Keeps that a step begins.
   * @throws NotReplicatedError when it was kept, and replicas did not have it in time
   */
  begin(run: StepsOwner, step: KeptStep, mark: string, deadline: Deadline): Promise<StepKeeping> {
    return this.write(run, step, `begun|${mark}`, deadline);
  }

  /** Keeps the result of a step. Keeps trying while Redis refuses it for want of memory or disk. */
  end(
    run: StepsOwner,
    step: KeptStep,
    result: StoredResult,
    ttlMs: number,
    deadline: Deadline,
  ): Promise<StepKeeping> {
    const entry = doneEntry(result, ttlMs);
    const keep = (): Promise<StepKeeping> =>
      untilAccepted(deadline, () => this.write(run, step, entry, deadline));
    // For one that counts for a time only, or is to be replicated, two scripts are not worth it.
    if (!step.usual || ttlMs !== 0 || run.durability) return keep();
    const { keys, head, tail, keepMs } = run;
    const { lineage, retentionMs } = run.runTrace;
    const args = { head, tail, lineage, step: step.step, entry, retentionMs, keepMs };
    const keepAsUsual = (): Promise<StepKeeping | 'OTHER'> =>
      step.usual === 'first'
        ? this.scripts.run(firstStepScript, keys, args, deadline)
        : this.scripts.run(nextStepScript, keys, args, deadline);
    return untilAccepted(deadline, keepAsUsual).then((kept) => (kept === 'OTHER' ? keep() : kept));
  }

  /** Takes back that a step began. */
  unmark({ keys }: StepsOwner, step: string, mark: string, deadline: Deadline): Promise<boolean> {
    return this.scripts.run(unmarkStepScript, { steps: keys.steps }, { step, mark }, deadline);
  }

  /** Reads the steps of a run's predecessors; undefined where they are gone. */
  async read(
    { steps }: StepKeys,
    lineage: string,
    deadline: Deadline,
  ): Promise<Map<string, StepEntry> | undefined> {
    const found = await this.scripts.run(readStepsScript, { steps }, { lineage }, deadline);
    if (!found) return undefined;
    const entries = new Map<string, StepEntry>();
    for (let i = 0; i < found.length; i += 2) entries.set(found[i]!.toString(), entryOf(found[i + 1]!));
    return entries;
  }

  /** Completes a run that may have steps. */
  finish(
    { owner, keys, durability }: Pick<StepsOwner, 'owner' | 'keys' | 'durability'>,
    sealed: StoredResult,
    ttlMs: number,
    deadline: Deadline,
  ): Promise<Completion> {
    const args = { ...completion(owner, sealed, ttlMs), head: lastingHead(owner) };
    return untilAccepted(deadline, () =>
      this.scripts.run(finishScript, { ...keys }, args, deadline, { durability }),
    );
  }

  /**
   * Ends a run with an unknown outcome.
   * @param heldMs time for which the key is held, in milliseconds
   */
  hold(
    { owner, keys, trace, keepMs, durability }: StepsOwner,
    heldMs: number,
    reason: HoldReason,
    deadline: Deadline,
  ): Promise<Completion> {
    const { token, fingerprint } = owner;
    const args = { token, fingerprint, heldMs, reason, trace, keepMs };
    return untilAccepted(deadline, () =>
      this.scripts.run(holdScript, { ...keys }, args, deadline, { durability }),
    );
  }

  seal(record: string, step: string, result: StoredResult): StoredResult {
    return this.sealer.seal(placeOf(record, step), result);
  }

  open(record: string, step: string, sealed: StoredResult): StoredResult {
    return this.sealer.open(placeOf(record, step), sealed);
  }

  private write(
    { owner, keys, trace, keepMs, durability }: StepsOwner,
    { step, hasSteps, leaseMs }: KeptStep,
    entry: string | Buffer,
    deadline: Deadline,
  ): Promise<StepKeeping> {
    const known = hasSteps ? 'kept' : '';
    const args = { running: runningRecord(owner), trace, leaseMs, keepMs, known, step, entry };
    return this.scripts.run(keepStepScript, keys, args, deadline, { durability });
  }
}

/** A record's name ends in a hash of a fixed length, so that no two places are the same. */
const placeOf = (record: string, step: string): string => `${record}/${step}`;

function entryOf(bytes: Buffer): StepEntry {
  const [state, kind, countsUntil] = bytes.toString('latin1', 0, HEAD_BYTES).split('|', 3);
  if (state !== 'done') return { state: 'begun' };
  const result = bytes.subarray(`done|${kind}|${countsUntil}|`.length);
  return { state: 'done', sealed: { kind: kind as ResultKind, bytes: result } };
}

/**
 * An entry of a step that has ended.
 * @param counts server time in milliseconds until which it counts; for the script that keeps it,
 * for how long; 0 for always
 */
export const doneEntry = ({ kind, bytes }: StoredResult, counts: number): string | Buffer =>
  headed(`done|${kind}|${counts}|`, bytes);

/** The bytes that a result takes in Redis. */
export const sizeOf = ({ bytes }: StoredResult): number => Buffer.byteLength(bytes);
