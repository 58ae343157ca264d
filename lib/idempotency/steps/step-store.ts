import type { DurabilityOptions } from '../../connection/durability.js';
import type { RedisConnection } from '../../connection/redis-connection.js';
import { Deadline } from '../../runtime/deadline.js';
import type { ScriptRunner } from '../../scripting/script-runner.js';
import type { Completion } from '../complete.script.js';
import type { HoldReason } from '../idempotency.errors.js';
import type { Owner } from '../run-lease.js';
import type { ResultSealer } from '../result-sealer.js';
import { traceText, type RunTrace } from '../run-trace.js';
import type { ResultKind, StoredResult } from '../stored-result.js';
import { untilAccepted } from '../until-accepted.js';
import { finishScript } from './finish.script.js';
import { holdScript } from './hold.script.js';
import { keepStepScript, type StepKeeping } from './keep-step.script.js';
import { readStepsScript } from './read-steps.script.js';
import type { StepKeys } from './step-keys.js';
import { unmarkStepScript } from './unmark-step.script.js';

/** The stored state of a step: that it began, or its result as it is stored. */
export type StepEntry =
  { readonly state: 'begun' } | { readonly state: 'done'; readonly sealed: StoredResult };

/** A run as the scripts on its steps need it. */
export interface StepsOwner {
  readonly owner: Owner;
  readonly keys: StepKeys;
  readonly trace: RunTrace;
  /** The time to live of the steps, in milliseconds. */
  readonly keepMs: number;
  /** True if something of the steps is surely kept: where Redis has nothing, it was lost. */
  readonly hasSteps: boolean;
  readonly durability: DurabilityOptions | undefined;
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
    connection.preload([keepStepScript, unmarkStepScript, readStepsScript, finishScript, holdScript]);
  }

  /**
   * Keeps that a step begins.
   * @throws NotReplicatedError when it was kept, and replicas did not have it in time
   */
  begin(
    run: StepsOwner,
    step: string,
    mark: string,
    leaseMs: number,
    deadline: Deadline,
  ): Promise<StepKeeping> {
    return this.write(run, step, { mark, kind: '', ttlMs: 0, result: '', leaseMs }, deadline);
  }

  /**
   * Keeps the result of a step. Goes on trying while Redis refuses it for want of memory or disk.
   * @param leaseMs 0 if the run counts on its lease no more
   */
  end(
    run: StepsOwner,
    step: string,
    { kind, bytes }: StoredResult,
    ttlMs: number,
    leaseMs: number,
    deadline: Deadline,
  ): Promise<StepKeeping> {
    const args = { mark: '', kind, ttlMs, result: bytes, leaseMs };
    return untilAccepted(deadline, () => this.write(run, step, args, deadline));
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
    { owner, keys, durability }: Omit<StepsOwner, 'trace' | 'keepMs' | 'hasSteps'>,
    { kind, bytes }: StoredResult,
    ttlMs: number,
    deadline: Deadline,
  ): Promise<Completion> {
    const { token, fingerprint } = owner;
    const args = { token, fingerprint, ttlMs, kind, result: bytes };
    return untilAccepted(deadline, () =>
      this.scripts.run(finishScript, { ...keys }, args, deadline, { durability }),
    );
  }

  /** Ends a run whose outcome nobody knows. */
  hold(
    { owner, keys, trace, keepMs, durability }: Omit<StepsOwner, 'hasSteps'>,
    reason: HoldReason,
    deadline: Deadline,
  ): Promise<Completion> {
    const { token, fingerprint } = owner;
    const heldMs = trace.retentionMs;
    const args = { token, fingerprint, heldMs, reason, trace: traceText(trace), keepMs };
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
    { owner, keys, trace, keepMs, hasSteps, durability }: StepsOwner,
    step: string,
    args: { mark: string; kind: string; ttlMs: number; result: string | Buffer; leaseMs: number },
    deadline: Deadline,
  ): Promise<StepKeeping> {
    const { token, fingerprint } = owner;
    const run = { token, fingerprint, trace: traceText(trace), keepMs, hasSteps: hasSteps ? 1 : 0 };
    const all = { ...run, step, ...args };
    return this.scripts.run(keepStepScript, { ...keys }, all, deadline, { durability });
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
 * An entry of a step that has ended, as the scripts write it.
 * @param countsUntil server time in milliseconds; 0 for always
 */
export const doneEntry = ({ kind, bytes }: StoredResult, countsUntil: number): Buffer =>
  Buffer.concat([Buffer.from(`done|${kind}|${countsUntil}|`), Buffer.from(bytes)]);

/** The bytes that a result takes in Redis. */
export const sizeOf = ({ bytes }: StoredResult): number => Buffer.byteLength(bytes);
