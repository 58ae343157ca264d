import { Logger } from '@nestjs/common';
import {
  AtomicRedisError,
  IllegalTransactionStateError,
  LeaseLostError,
  ModuleClosedError,
  NotReplicatedError,
  OutcomeUnknownError,
} from '../../atomic-redis.errors.js';
import type { RedisConnection } from '../../connection/redis-connection.js';
import { Deadline, sleep } from '../../runtime/deadline.js';
import { isInTransaction } from '../../runtime/transaction-scope.js';
import { IllegalRunStateError, StepInterruptedError } from '../idempotency.errors.js';
import type { ClaimRequest } from '../idempotent-run.js';
import { isKept, type LeaseKeeper } from '../../leases/lease-keeper.js';
import type { RunLease } from '../run-lease.js';
import type { ResultCodec } from '../result-codec.js';
import type { RunTrace } from '../run-trace.js';
import { settled } from '../settled.js';
import { replayed, storedValue, tombstone, type StoredResult } from '../stored-result.js';
import { stepFinding } from './probe.js';
import { StepCommit, type SealedResult } from './step-commit.js';
import type { StepKeys } from './step-keys.js';
import { StepContext } from './step-context.js';
import { checkStep, type StepOptions, type StepWork } from './step.options.js';
import { sizeOf, type StepEntry, type StepsOwner, type StepStore } from './step-store.js';

const logger = new Logger('IdempotencyService');

/** The bounds of the steps of one run. */
export interface StepLimits {
  readonly maxSteps: number;
  readonly maxStepBytes: number;
  readonly probeTimeoutMs: number;
}

/** A run as its steps see it. */
export interface SteppedRun {
  readonly lease: RunLease;
  readonly leases: LeaseKeeper<RunLease>;
  readonly request: ClaimRequest;
  readonly keys: StepKeys;
  /** As the record has it once there is a step. */
  readonly trace: RunTrace;
  /** The time to live of the steps, in milliseconds. */
  readonly keepMs: number;
  /** True if predecessors had steps. */
  readonly goesOn: boolean;
  hasEnded(): boolean;
  keyFor(name: string): string;
  /** Redis says that the run has lost its key. */
  loseKey(): void;
}

/** One step that is asked for. */
interface Asked<T> {
  readonly name: string;
  readonly work: StepWork<T>;
  readonly options: StepOptions<T>;
}

/** The steps of one run, and what is kept of those of its predecessors. */
export class RunSteps {
  /** True once the record may be one that outlives its lease. */
  isOpened = false;
  /** The step whose outcome nobody knows: the run may not be given back. */
  interrupted: string | undefined;
  private readonly entries = new Map<string, StepEntry>();
  /** All that count as steps of the run. */
  private readonly names = new Set<string>();
  private reading: Promise<void> | undefined;
  private isLost = false;
  private isSurelyOpened = false;
  /** Names asked for in this pass of the method. */
  private readonly asked = new Set<string>();
  /** Kept by predecessors, and not asked for. */
  private readonly unused = new Set<string>();
  /** Steps that Redis may have kept, without this run having been told. */
  private readonly unsure = new Set<string>();
  /** Settle when the step of that name has settled. */
  private readonly underWay = new Map<string, Promise<void>>();
  private bytes = 0;
  private marks = 0;

  constructor(
    private readonly run: SteppedRun,
    private readonly connection: RedisConnection,
    private readonly store: StepStore,
    private readonly limits: StepLimits,
  ) {}

  /** True once the record surely is one that outlives its lease. */
  get hasOpened(): boolean {
    return this.isSurelyOpened;
  }

  /** The method begins anew: steps that it has ended give their results. */
  passBegins(): void {
    this.asked.clear();
  }

  /** Resolves once every step that is under way has settled. */
  async settled(): Promise<void> {
    while (this.underWay.size > 0) await Promise.all(this.underWay.values());
  }

  /** The finished steps of predecessors that this run never asked for. */
  get forgotten(): readonly string[] {
    return [...this.unused];
  }

  async step<T>(name: string, work: StepWork<T>, options: StepOptions<T>): Promise<T> {
    checkStep(name, work, options);
    if (isInTransaction())
      throw new IllegalTransactionStateError(
        `The step ${JSON.stringify(name)} inside a transaction would run once for each attempt. Begin the transaction inside the step, or the step after it`,
      );
    this.assertMayBegin();
    if (this.asked.has(name))
      throw new IllegalRunStateError(
        `This run has a step ${JSON.stringify(name)} already. Each step needs a name of its own, such as one with a number in a loop`,
      );
    this.asked.add(name);
    const asked = { name, work, options };
    // The method may have begun anew without waiting for what it had begun.
    const before = this.underWay.get(name);
    const performed = before ? before.then(() => this.perform(asked)) : this.perform(asked);
    const over = performed.then(
      () => undefined,
      () => void this.asked.delete(name),
    );
    this.underWay.set(name, over);
    void over.then(() => this.underWay.get(name) === over && this.underWay.delete(name));
    return await performed;
  }

  private async perform<T>({ name, work, options }: Asked<T>): Promise<T> {
    const { onInterrupted = 'run', aliases = [] } = options;
    await this.read();
    if (this.isLost) throw this.interruptedBy(name, 'steps-lost');
    const known = [name, ...aliases].find((one) => this.entries.has(one)) ?? name;
    if (this.unsure.has(known)) await this.lookUp(name, known);
    const entry = this.entries.get(known);
    if (entry?.state === 'done') return this.kept(name, known, entry, options);
    const context = new StepContext(this.run.keyFor(aliases[0] ?? name), this.run.lease.signal);
    if (entry && onInterrupted !== 'run') {
      if (onInterrupted === 'hold') throw this.interruptedBy(name, 'begun');
      const finding = await stepFinding(name, onInterrupted, context, this.limits.probeTimeoutMs);
      if (finding === 'hold') throw this.interruptedBy(name, 'begun');
      if (finding !== 'run') return await this.keep(known, finding.result, options);
    }
    this.admit(known);
    const mark = onInterrupted === 'run' ? undefined : await this.begin(known);
    const commit = this.commitOf(known, options);
    let value: T;
    let hasBegun = false;
    try {
      // Reading and asking may have taken their time.
      this.assertMayBegin();
      hasBegun = true;
      value = await commit.within(() => settled(work(context)));
    } catch (error) {
      if (commit.isUnknown) this.unsure.add(known);
      if (commit.kept) this.noteKept(known, commit.kept.sealed);
      else if (hasBegun && !context.saysNothingWasDone(error)) {
        if (onInterrupted === 'hold') this.interrupted ??= name;
      } else if (mark !== undefined && (await this.unmark(known, mark))) this.entries.delete(known);
      throw error;
    }
    if (!commit.kept) return await this.keep(known, value, options);
    const { result, sealed } = commit.kept;
    this.noteKept(known, sealed);
    if (result.kind === 'tombstone') return value;
    return replayed(result, options.codec ?? this.run.request.codec) as T;
  }

  private commitOf(name: string, { codec, ttlMs = 0 }: Pick<StepOptions, 'codec' | 'ttlMs'>): StepCommit {
    const { keys, keepMs, lease, leases } = this.run;
    return new StepCommit(this.connection, leases, lease, {
      name,
      keys,
      keepMs,
      ttlMs,
      open: async () => {
        if (!this.hasOpened) await this.begin(name);
      },
      seal: (value) => this.sealed(name, value, codec),
    });
  }

  private noteKept(name: string, sealed: StoredResult): void {
    this.entries.set(name, { state: 'done', sealed });
    this.bytes += sizeOf(sealed);
  }

  /** Reads what predecessors kept, once. */
  private read(): Promise<void> | undefined {
    if (!this.run.goesOn) return undefined;
    return (this.reading ??= this.readOnce().catch((error: unknown) => {
      this.reading = undefined;
      throw error;
    }));
  }

  private async readOnce(): Promise<void> {
    const { keys, trace, request } = this.run;
    const found = await this.store.read(keys, trace.lineage, Deadline.in(request.timeoutMs));
    this.isLost = !found;
    for (const [name, entry] of found ?? []) {
      this.entries.set(name, entry);
      this.names.add(name);
      if (entry.state === 'begun') continue;
      this.unused.add(name);
      this.bytes += sizeOf(entry.sealed);
    }
  }

  /** Finds out if Redis has kept a step of this run whose end was not answered. */
  private async lookUp(name: string, known: string): Promise<void> {
    const { keys, trace, request } = this.run;
    const found = await this.store.read(keys, trace.lineage, Deadline.in(request.timeoutMs));
    if (!found && (this.hasOpened || this.run.goesOn)) throw this.interruptedBy(name, 'steps-lost');
    const entry = found?.get(known);
    if (entry?.state === 'done') this.noteKept(known, entry.sealed);
    this.unsure.delete(known);
  }

  private kept<T>(
    name: string,
    known: string,
    { sealed }: StepEntry & { state: 'done' },
    { codec }: StepOptions<T>,
  ): T {
    this.unused.delete(known);
    if (sealed.kind === 'tombstone') throw this.interruptedBy(name, 'not-kept');
    const { keys, request } = this.run;
    return replayed(this.store.open(keys.record, known, sealed), codec ?? request.codec) as T;
  }

  /** Keeps that the step begins, before its work. @returns the name of this begin */
  private async begin(name: string): Promise<string> {
    this.assertMayBegin();
    const { lease, request } = this.run;
    const mark = `${lease.token}.${++this.marks}`;
    this.isOpened = true;
    const deadline = Deadline.in(request.timeoutMs);
    let keeping;
    try {
      keeping = await this.store.begin(this.ofScripts(), name, mark, request.leaseMs, deadline);
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

  private async unmark(name: string, mark: string): Promise<boolean> {
    const deadline = Deadline.in(this.run.request.timeoutMs);
    return await this.store.unmark(this.ofScripts(), name, mark, deadline).catch((error: Error) => {
      logger.warn(
        `It could not be taken back that a step began, so it counts as interrupted: ${error.message}`,
      );
      return false;
    });
  }

  private opened(): void {
    this.isSurelyOpened = true;
    this.run.lease.trace = this.run.trace;
  }

  /**
   * Keeps the result, and gives it as a later attempt gets it. The work is done by now, so whatever
   * goes wrong must not look as if nothing was.
   *
   * @throws OutcomeUnknownError, LeaseLostError
   */
  private async keep<T>(name: string, value: T, { codec: own, ttlMs = 0 }: StepOptions<T>): Promise<T> {
    const { request, lease } = this.run;
    const { leaseMs } = request;
    const codec = own ?? request.codec;
    let kept: SealedResult | undefined;
    let size = 0;
    let keeping;
    try {
      kept = this.sealed(name, value, own);
      this.isOpened = true;
      size = sizeOf(kept.sealed);
      // From now on, for others that end meanwhile.
      this.bytes += size;
      const stillHeld = isKept(lease) ? leaseMs : 0;
      const deadline = Deadline.in(leaseMs);
      keeping = await this.store.end(this.ofScripts(), name, kept.sealed, ttlMs, stillHeld, deadline);
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
    return result.kind === 'tombstone' ? value : (replayed(result, codec) as T);
  }

  /** Makes of a value what is kept, and what is stored of that. */
  private sealed(name: string, value: unknown, own: ResultCodec | undefined): SealedResult {
    const { keys, request } = this.run;
    const label = this.labelOf(name);
    const room = Math.max(0, this.limits.maxStepBytes - this.bytes);
    const result = storedValue(value, own ?? request.codec, room, { operation: label });
    if (result.kind === 'tombstone' && result.bytes === 'too-large')
      logger.warn(
        `The results of the steps of a run are larger than maxStepBytes: that of ${label} is not kept`,
      );
    return { result, sealed: this.store.seal(keys.record, name, result) };
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

  /** By this process's clock, which Redis's cannot be behind. */
  private assertMayBegin(): void {
    const { lease } = this.run;
    if (this.run.hasEnded()) throw ended();
    if (!isKept(lease) || performance.now() >= lease.endsAt) throw new LeaseLostError('not-applied');
  }

  private admit(name: string): void {
    const { maxSteps } = this.limits;
    if (this.names.has(name)) return;
    if (this.names.size < maxSteps) return void this.names.add(name);
    throw new IllegalRunStateError(
      `This run has ${maxSteps} steps, which is the most that it may have (idempotency.maxSteps). Do several things in one step, or raise the bound`,
    );
  }

  private interruptedBy(name: string, reason: StepInterruptedError['reason']): StepInterruptedError {
    this.interrupted ??= name;
    return new StepInterruptedError(name, reason);
  }

  private ofScripts(): StepsOwner {
    const { lease, keys, trace, request } = this.run;
    const { durability } = request;
    const hasSteps = this.hasOpened || this.run.goesOn;
    return { owner: lease, keys, trace, keepMs: this.run.keepMs, hasSteps, durability };
  }
}

const ended = (): IllegalRunStateError =>
  new IllegalRunStateError(
    'The run is over, or was committed by completesRun, and has no more steps. Await every step inside the method, and let the transaction that completes the run come last',
  );

/** Stands for the result of a step that is interrupted, at the end of its run. */
export const STEP_INTERRUPTED = tombstone('step-interrupted');
