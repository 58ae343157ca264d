import { Logger } from '@nestjs/common';
import {
  AtomicRedisError,
  LeaseLostError,
  ModuleClosedError,
  NotReplicatedError,
  OutcomeUnknownError,
} from '../../atomic-redis.errors.js';
import type { RedisConnection } from '../../connection/redis-connection.js';
import { isKept } from '../../leases/lease-keeper.js';
import { Deadline, sleep } from '../../runtime/deadline.js';
import { IllegalRunStateError } from '../idempotency.errors.js';
import type { ResultCodec } from '../result-codec.js';
import { replayed, storedValue, type StoredResult } from '../stored-result.js';
import type { StepOptions } from './step.options.js';
import {
  sizeOf,
  StepsOwner,
  type KeptStep,
  type SealedResult,
  type StepEntry,
  type StepStore,
} from './step-store.js';
import type { StepLimits, SteppedRun } from './stepped-run.js';

const logger = new Logger('IdempotencyService');

/** Remembers which steps of a run and its predecessors are kept, and which the run may still keep. */
export class StepLog {
  /** True once the record may be one that outlives its lease. */
  isOpened = false;
  /** True once it surely is. */
  hasOpened = false;
  /** Kept by predecessors, and not asked for. */
  readonly unused = new Set<string>();
  readonly entries = new Map<string, StepEntry>();
  /** All that count as steps of the run. */
  private readonly names = new Set<string>();
  /** Steps that Redis may have kept, without this run having been told: see {@link lookUp}. */
  readonly unsure = new Set<string>();
  private reading: Promise<boolean> | undefined;
  private bytes = 0;
  private marks = 0;
  /** This run, for the scripts. */
  private readonly owner: StepsOwner;

  constructor(
    readonly run: SteppedRun,
    readonly connection: RedisConnection,
    private readonly store: StepStore,
    private readonly limits: StepLimits,
  ) {
    const { lease, keys, trace, keepMs, request } = run;
    this.owner = new StepsOwner(lease, keys, trace, keepMs, request.durability);
  }

  /** Reads what predecessors kept, once. Resolves with false if it is lost. */
  read(): Promise<boolean> {
    return (this.reading ??= this.readOnce().catch((error: unknown) => {
      this.reading = undefined;
      throw error;
    }));
  }

  /** Returns the name under which a step is kept, if it is. */
  nameOf(name: string, aliases: readonly string[]): string {
    return this.entries.has(name) ? name : (aliases.find((one) => this.entries.has(one)) ?? name);
  }

  noteKept(name: string, sealed: StoredResult): void {
    this.entries.set(name, { state: 'done', sealed });
    this.bytes += sizeOf(sealed);
  }

  /** @returns false if what was kept is lost */
  async lookUp(name: string): Promise<boolean> {
    const found = await this.found();
    if (!found && (this.hasOpened || this.run.goesOn)) return false;
    const entry = found?.get(name);
    if (entry?.state === 'done') this.noteKept(name, entry.sealed);
    this.unsure.delete(name);
    return true;
  }

  /** Gives the result of a finished step. */
  valueOf<T>(name: string, sealed: StoredResult, codec: ResultCodec | undefined): T {
    const { keys, request } = this.run;
    return replayed(this.store.open(keys.record, name, sealed), codec ?? request.codec) as T;
  }

  /** Counts a step of this run. @throws IllegalRunStateError */
  admit(name: string): void {
    const { maxSteps } = this.limits;
    if (this.names.size >= maxSteps && !this.names.has(name))
      throw new IllegalRunStateError(
        `This run has ${maxSteps} steps, which is the most that it may have (idempotency.maxSteps). Do several things in one step, or raise the bound`,
      );
    this.names.add(name);
  }

  /** The reason why nothing may begin, by this process's clock, which Redis's cannot be behind. */
  get objection(): Error | undefined {
    const { lease } = this.run;
    if (this.run.hasEnded()) return ended();
    const isHeld = isKept(lease) && performance.now() < lease.endsAt;
    return isHeld ? undefined : new LeaseLostError('not-applied');
  }

  /** Keeps that the step begins, before its work. @returns the name of this begin */
  async begin(name: string): Promise<string> {
    const { objection } = this;
    if (objection) throw objection;
    const { lease, request } = this.run;
    const mark = `${lease.token}.${++this.marks}`;
    this.isOpened = true;
    const deadline = Deadline.in(request.timeoutMs);
    let keeping;
    try {
      keeping = await this.store.begin(this.owner, this.asKept(name, request.leaseMs), mark, deadline);
    } catch (error) {
      if (!(error instanceof AtomicRedisError) || error.outcome === 'not-applied') throw error;
      // The mark may be there, or may yet arrive, up to its deadline. The work was not begun, so it
      // may be taken back.
      if (error instanceof OutcomeUnknownError && !(error.cause instanceof ModuleClosedError))
        await sleep(deadline.remainingMs);
      await this.unmark(name, mark);
      throw this.connection.unavailable(error);
    }
    if (keeping !== 'kept') throw this.refusal(keeping, 'not-applied');
    this.opened();
    this.entries.set(name, { state: 'begun' });
    return mark;
  }

  /** Takes back that the step began, where that is possible. */
  async unmark(name: string, mark: string): Promise<void> {
    const deadline = Deadline.in(this.run.request.timeoutMs);
    try {
      if (await this.store.unmark(this.owner, name, mark, deadline)) this.entries.delete(name);
    } catch (error) {
      logger.warn(
        `The begin of a step could not be undone, so the step counts as interrupted: ${(error as Error).message}`,
      );
    }
  }

  /**
   * Keeps the result, and gives it as a later attempt gets it. The work is done by now, so whatever
   * goes wrong must not look as if nothing was.
   *
   * @throws OutcomeUnknownError, LeaseLostError
   */
  async keep<T>(name: string, value: T, { codec, ttlMs = 0 }: StepOptions<T>): Promise<T> {
    const { lease } = this.run;
    let kept: SealedResult | undefined;
    let size = 0;
    let keeping;
    try {
      kept = this.sealed(name, value, codec);
      size = sizeOf(kept.sealed);
      // From now on, for others that end meanwhile.
      this.bytes += size;
      const step = this.asKept(name, isKept(lease) ? lease.leaseMs : 0);
      this.isOpened = true;
      keeping = await this.store.end(this.owner, step, kept.sealed, ttlMs, Deadline.in(lease.leaseMs));
    } catch (error) {
      if (error instanceof OutcomeUnknownError) this.unsure.add(name);
      if (!(error instanceof NotReplicatedError)) {
        this.bytes -= size;
        throw this.notKept(name, error as Error);
      }
      logger.warn(`The result of ${this.labelOf(name)} was kept, but ${error.message}`);
      keeping = error.result;
    }
    if (keeping === 'ended') throw this.notKept(name, ended());
    if (keeping !== 'kept') throw this.refusal(keeping, 'unknown');
    const { result, sealed } = kept!;
    this.opened();
    this.entries.set(name, { state: 'done', sealed });
    return this.given(name, value, result, codec);
  }

  /** Makes of a value what is kept, and what is stored of that. */
  sealed(name: string, value: unknown, codec: ResultCodec | undefined): SealedResult {
    const { keys, request } = this.run;
    const room = Math.max(0, this.limits.maxStepBytes - this.bytes);
    const result = storedValue(value, codec ?? request.codec, room, { operation: () => this.labelOf(name) });
    if (result.kind === 'tombstone' && result.bytes === 'too-large')
      logger.warn(
        `The results of the steps of a run are larger than maxStepBytes: that of ${this.labelOf(name)} is not kept`,
      );
    return { result, sealed: this.store.seal(keys.record, name, result) };
  }

  /**
   * The result as a later attempt gets it; the value itself where it could not be kept.
   * @throws OutcomeUnknownError when the codec cannot read it: the work is done all the same
   */
  given<T>(name: string, value: T, result: StoredResult, codec: ResultCodec | undefined): T {
    if (result.kind === 'tombstone') return value;
    try {
      return replayed(result, codec ?? this.run.request.codec) as T;
    } catch (error) {
      throw this.notKept(name, error as Error);
    }
  }

  private async readOnce(): Promise<boolean> {
    const found = await this.found();
    for (const [name, entry] of found ?? []) {
      this.names.add(name);
      if (entry.state === 'done') {
        this.noteKept(name, entry.sealed);
        this.unused.add(name);
      } else this.entries.set(name, entry);
    }
    return found !== undefined;
  }

  private async found(): Promise<Map<string, StepEntry> | undefined> {
    const { keys, trace, request } = this.run;
    return await this.store.read(keys, trace.lineage, Deadline.in(request.timeoutMs));
  }

  private opened(): void {
    this.hasOpened = true;
    this.run.lease.trace = this.run.trace;
  }

  private labelOf(name: string): string {
    const { operation } = this.run.request;
    return `the step ${JSON.stringify(name)}${operation && ` of ${operation}`}`;
  }

  private notKept(name: string, cause: Error): OutcomeUnknownError {
    return new OutcomeUnknownError(
      `The work of ${this.labelOf(name)} is done, and its result could not be kept: ${cause.message}`,
      { cause },
    );
  }

  private refusal(keeping: unknown, outcome: 'unknown' | 'not-applied'): Error {
    if (keeping === 'ended') return ended();
    this.run.loseKey();
    return new LeaseLostError(outcome);
  }

  private asKept(step: string, leaseMs: number): KeptStep {
    const isFirst = !this.isOpened && this.run.lease.trace === undefined;
    const usual = this.hasOpened ? 'next' : isFirst ? 'first' : undefined;
    return { step, hasSteps: this.hasOpened || this.run.goesOn, usual, leaseMs };
  }
}

const ended = (): IllegalRunStateError =>
  new IllegalRunStateError(
    'The run is over, or was committed by completesRun, and has no more steps. Await every step inside the method, and let the transaction that completes the run come last',
  );
