import { Logger } from '@nestjs/common';
import { LeaseLostError, NotReplicatedError } from '../atomic-redis.errors.js';
import type { AtomicRedisEvent } from '../observability/event-types.js';
import { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { LeaseKeeper } from '../leases/lease-keeper.js';
import { isHoldReason, type HoldReason } from './idempotency.errors.js';
import type { ClaimRequest } from './claim-request.js';
import { IdempotentRun, type ClaimedRun } from './idempotent-run.js';
import { ObservedMethod } from './observed-method.js';
import type { RecordStore } from './record-store.js';
import type { ReplayCache } from './replay-cache.js';
import { RunCommit } from './run-commit.js';
import { keptMsOf, memoryMsOf, RunLease, type Owner } from './run-lease.js';
import type { RunTrace } from './run-trace.js';
import { RunSteps } from './steps/run-steps.js';
import { stepKeysOf, type StepKeys } from './steps/step-keys.js';
import type { StepOptions, StepWork } from './steps/step.options.js';
import { StepsOwner, type StepStore } from './steps/step-store.js';
import type { StepLimits } from './steps/stepped-run.js';
import { tombstone, type StoredResult } from './stored-result.js';
import { thirdPartyKey } from './third-party-key.js';
import type { UsualDurations } from './usual-durations.js';

const logger = new Logger('IdempotencyService');

/** The bounds of each run. */
export interface RunLimits extends StepLimits {
  readonly maxResultBytes: number;
  readonly heldTtlMs: number;
}

/** The parts of its service that a run needs. */
export interface RunDependencies {
  readonly connection: RedisConnection;
  readonly store: RecordStore;
  readonly leases: LeaseKeeper<RunLease>;
  readonly cache: ReplayCache | undefined;
  readonly steps: StepStore;
  readonly limits: RunLimits;
  readonly durations: UsualDurations;
  /** Waits for the last step of a run as long as its caller may be kept waiting. */
  readonly finish: (step: Promise<unknown>, request: ClaimRequest) => Promise<void>;
}

type Outcome = Extract<AtomicRedisEvent, { type: 'idempotency.run' }>['outcome'];

/** The run of an owner that has just claimed the record. */
export class OwnedRun extends IdempotentRun implements ClaimedRun {
  private readonly lease: RunLease;
  private readonly method: ObservedMethod;
  private readonly commit: RunCommit;
  private hasRun = false;
  private isReleasing = false;
  private replicated = true;
  private steps: RunSteps | undefined;

  /**
   * @param claimedAt monotonic time at which the claim was sent
   * @param trace of a run that continues the work of another, or outlives its lease
   */
  constructor(
    owner: Owner,
    claimedAt: number,
    private readonly request: ClaimRequest,
    private readonly surroundings: RunDependencies,
    private readonly trace: RunTrace | undefined,
  ) {
    super();
    const { connection, store, leases, limits } = surroundings;
    const lease = new RunLease(owner, request, claimedAt, connection.observer);
    lease.trace = trace;
    this.lease = lease;
    leases.keep(lease);
    const committed = { run: this, store, lease, request, companions: () => this.companions() };
    const commit = new RunCommit(connection, leases, committed, limits.maxResultBytes);
    this.commit = commit;
    this.method = new ObservedMethod(request.observed, commit);
  }

  get signal(): AbortSignal {
    return this.lease.signal;
  }

  get attempt(): number {
    return this.trace?.attempt ?? 1;
  }

  /** True if the run before died, and no policy has judged that yet. */
  get isAbandoned(): boolean {
    return this.trace?.isAbandoned ?? false;
  }

  get resumed(): boolean {
    return this.attempt > 1;
  }

  keyFor(name: string): string {
    return thirdPartyKey(this.lease.record, this.trace?.keysEpoch ?? '', name);
  }

  step<T>(name: string, work: StepWork<T>, options: StepOptions<T> = {}): Promise<T> {
    const step = (this.steps ??= this.firstStep()).step(name, work, options);
    // A method need not wait for what it has begun.
    step.catch(ignore);
    return step;
  }

  within<T>(method: () => Promise<T> | T): Promise<T> {
    this.hasRun = true;
    this.steps?.passBegins();
    return this.method.within(method);
  }

  complete(result: StoredResult): Promise<void> {
    this.lease.end();
    return this.surroundings.finish(this.storeResult(result), this.request);
  }

  release(): Promise<void> {
    this.isReleasing = true;
    return this.surroundings.finish(
      this.steps ? this.releaseAfter(this.steps) : this.releaseKey(),
      this.request,
    );
  }

  abandon(): Promise<void> {
    return this.surroundings.finish(this.giveBack(), this.request);
  }

  /** The lease is kept up meanwhile. */
  private async storeResult(result: StoredResult): Promise<void> {
    const { store, leases, cache } = this.surroundings;
    const { record, fingerprint } = this.lease;
    const { ttlMs, leaseMs, durability } = this.request;
    const sealed = store.seal(record, result);
    const reason = sealed.kind === 'tombstone' ? sealed.bytes.toString() : '';
    let outcome: Outcome = 'store-failed';
    try {
      const companions = this.companions();
      if (isHoldReason(reason)) outcome = await this.hold(reason);
      else if (companions) outcome = await this.finishSteps(companions, sealed);
      else outcome = await store.complete(this.lease, sealed, ttlMs, Deadline.in(leaseMs), durability);
    } catch (error) {
      if (!(error instanceof NotReplicatedError)) throw error;
      this.replicated = false;
      logger.warn(`The result of a run was stored, but ${error.message}`);
      outcome = error.result as Outcome;
    } finally {
      leases.letGo(this.lease);
      if (outcome === 'lease-lost') logger.warn('A run lost its lease to another run, whose result stands');
      if (outcome === 'completed' && sealed.kind !== 'tombstone')
        cache?.set(record, fingerprint, result, ttlMs);
      this.report(outcome, isHoldReason(reason) ? reason : undefined);
      if (outcome === 'completed') this.tellUnused();
    }
  }

  /** Tells of steps that predecessors had finished, and this run never asked for. */
  private tellUnused(): void {
    const unused = this.steps?.log.unused;
    if (!unused || unused.size === 0) return;
    const { operation: name } = this.request;
    this.surroundings.connection.observer.occurred({ type: 'steps.unused', name, steps: [...unused] });
  }

  /** Returns the keys of a run that may have steps. */
  private companions(): StepKeys | undefined {
    return this.trace || this.steps?.log.isOpened
      ? stepKeysOf(this.surroundings.connection, this.lease.record)
      : undefined;
  }

  private finishSteps(keys: StepKeys, sealed: StoredResult): Promise<Outcome> {
    const { steps } = this.surroundings;
    const { leaseMs, durability } = this.request;
    const keptMs = keptMsOf(this.request);
    return steps.finish({ owner: this.lease, keys, durability }, sealed, keptMs, Deadline.in(leaseMs));
  }

  private hold(reason: HoldReason): Promise<Outcome> {
    const { steps, connection } = this.surroundings;
    const { leaseMs, durability } = this.request;
    const keys = stepKeysOf(connection, this.lease.record);
    const trace = this.steps?.log.isOpened ? this.steppedTrace() : (this.trace ?? this.firstTrace());
    const keepMs = keepMsOf(this.request, trace.retentionMs);
    const owner = new StepsOwner(this.lease, keys, trace, keepMs, durability);
    return steps.hold(owner, trace.retentionMs, reason, Deadline.in(leaseMs));
  }

  /** Releases once all steps have settled: only then is known what they have done. */
  private async releaseAfter(steps: RunSteps): Promise<void> {
    await steps.settled();
    if (steps.interrupted === undefined) await this.releaseKey();
    else await this.storeResult(tombstone('step-interrupted'));
  }

  private async releaseKey(): Promise<void> {
    let outcome: Outcome = 'store-failed';
    try {
      outcome = await this.giveBack();
    } finally {
      this.report(outcome);
    }
  }

  private giveBack(): Promise<Outcome> {
    const { store, leases } = this.surroundings;
    leases.letGo(this.lease);
    const deadline = Deadline.in(this.request.leaseMs);
    const terms = { memoryMs: memoryMsOf(this.request), hasRun: this.hasRun };
    const lasting = this.companions() && { trace: this.keptTrace() };
    return store.release(this.lease, terms, deadline, lasting);
  }

  /** Returns the trace of a run that surely has steps, or whose predecessors had. */
  private keptTrace(): RunTrace | undefined {
    if (this.steps?.log.hasOpened) return this.steppedTrace();
    return this.trace?.hasSteps ? this.trace : undefined;
  }

  private firstStep(): RunSteps {
    const { connection, steps, limits, leases } = this.surroundings;
    const { lease, request } = this;
    const trace = this.steppedTrace();
    const run = {
      run: this,
      lease,
      leases,
      request,
      trace,
      keys: stepKeysOf(connection, lease.record),
      keepMs: keepMsOf(request, trace.retentionMs),
      goesOn: this.trace?.hasSteps ?? false,
      hasEnded: () => lease.hasEnded || this.isReleasing || this.commit.committed,
      loseKey: () => {
        leases.letGo(lease);
        lease.lost(new LeaseLostError());
      },
    };
    return new RunSteps(run, connection, steps, limits);
  }

  /** As the record has it once the run has a step. */
  private steppedTrace(): RunTrace {
    return { ...(this.trace ?? this.firstTrace()), hasSteps: true, isAbandoned: false };
  }

  private firstTrace(): RunTrace {
    return firstTrace(this.lease.token, this.request, this.surroundings.limits.heldTtlMs);
  }

  private report(outcome: Outcome, reason?: HoldReason): void {
    const { observed, operation } = this.request;
    this.surroundings.durations.ended(operation, performance.now() - this.lease.claimedAt);
    observed.end(() => ({
      type: 'idempotency.run',
      outcome,
      operation,
      record: this.lease.record,
      attempt: this.attempt,
      ...(outcome === 'held' && reason && { reason }),
      replicated: this.replicated,
      ...this.method.failure,
    }));
  }
}

const ignore = (): void => undefined;

/**
 * For how long a run's companions are kept, in milliseconds. With twice the retention, an index
 * entry outlives its record however often the record is taken over.
 */
export const keepMsOf = ({ maxRunMs, leaseMs }: ClaimRequest, retentionMs: number): number =>
  maxRunMs + leaseMs + 2 * retentionMs;

/** The trace of a run that continues no other. */
export const firstTrace = (token: string, { operation }: ClaimRequest, heldTtlMs: number): RunTrace => ({
  retentionMs: heldTtlMs,
  attempt: 1,
  isAbandoned: false,
  hasSteps: false,
  lineage: token,
  keysEpoch: '',
  operation,
});
