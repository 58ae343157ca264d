import { Logger } from '@nestjs/common';
import { NotReplicatedError, OutcomeUnknownError, RedisUnavailableError } from '../atomic-redis.errors.js';
import type { AtomicRedisEvent } from '../observability/event-types.js';
import { errorName } from '../observability/observer.js';
import { unschedule, schedule } from '../runtime/timer-queue.js';
import { Deadline } from '../runtime/deadline.js';
import { randomId } from '../runtime/random-id.js';
import { KeySignals } from '../connection/key-signals.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import { LeaseKeeper } from '../leases/lease-keeper.js';
import type { AbandonedFinding } from './abandoned.options.js';
import type { ClaimReply } from './claim.script.js';
import { DuplicateWaits, type WaitOutcome } from './duplicate-waits.js';
import {
  IdempotencyCallerMismatchError,
  IdempotencyInFlightError,
  IdempotencyMismatchError,
  IdempotencyRecordError,
  IdempotencyResultUnavailableError,
  type HoldReason,
} from './idempotency.errors.js';
import type { ResolvedIdempotencyOptions } from './idempotency.options.js';
import type { ClaimRequest } from './claim-request.js';
import type { Claim, ClaimedRun, Replay } from './idempotent-run.js';
import type { Found, LastingClaim, RecordStore } from './record-store.js';
import { ReplayCache } from './replay-cache.js';
import { memoryMsOf, type Owner, type RunLease } from './run-lease.js';
import { limited, storedValue, tombstone, type StoredResult } from './stored-result.js';
import { UsualDurations } from './usual-durations.js';
import { firstTrace, keepMsOf, OwnedRun, type RunDependencies, type RunLimits } from './claimed-run.js';
import { storedResponse } from './settled-response.js';
import { abandonedFinding } from './steps/probe.js';
import type { StepStore } from './steps/step-store.js';
import { UnprotectedRun } from './unprotected-run.js';

type Outcome = Extract<AtomicRedisEvent, { type: 'idempotency.duplicate' }>['outcome'];

/** Claims keys for runs, or finds the outcome of the run that has the key. */
export class RunClaimer {
  private readonly logger = new Logger('IdempotencyService');
  private readonly leases: LeaseKeeper<RunLease>;
  private readonly waits: DuplicateWaits<ClaimedRun>;
  private readonly cache: ReplayCache | undefined;
  private readonly surroundings: RunDependencies;
  private readonly durations = new UsualDurations();

  constructor(
    private readonly store: RecordStore,
    steps: StepStore,
    private readonly connection: RedisConnection,
    private readonly work: WorkInFlight,
    options: RunLimits & Pick<ResolvedIdempotencyOptions, 'replayCache'>,
  ) {
    this.leases = new LeaseKeeper((leases, lengthMs) => store.renew(leases, lengthMs));
    this.waits = new DuplicateWaits(new KeySignals(connection), (run) => run.abandon());
    if (options.replayCache) this.cache = new ReplayCache(options.replayCache);
    const { leases, cache, durations } = this;
    const finish = this.finish.bind(this);
    this.surroundings = { connection, store, leases, cache, steps, limits: options, durations, finish };
  }

  /**
   * One round trip, or none where this process's cache has the result.
   *
   * @throws IdempotencyInFlightError, IdempotencyCallerMismatchError, IdempotencyMismatchError,
   * IdempotencyRecordError
   * @throws RedisUnavailableError when the key could not be claimed in time; what may have been
   * claimed is released again
   */
  async claim(request: ClaimRequest): Promise<Claim> {
    const { record, fingerprint, onDuplicate, onUnavailable } = request;
    const began = performance.now();
    let waited = false;
    let asked = false;
    const report = (outcome: Outcome, failure?: { error: unknown }): void => {
      const waitedMs = waited ? performance.now() - began : 0;
      const { operation } = request;
      const error = failure && { error: errorName(failure.error) };
      request.observed.end(() => ({
        type: 'idempotency.duplicate',
        outcome,
        operation,
        record,
        waitedMs,
        cached: !asked,
        ...error,
      }));
    };
    try {
      const cached = this.cache?.get(record, fingerprint);
      if (cached) return replayOf(record, cached, report);
      asked = true;
      let found = await this.tryClaim(request);
      if (found.kind === 'running') {
        if (onDuplicate === 'refuse') throw this.inFlight(request.operation, found.leaseLeftMs);
        waited = true;
        const waiter = {
          fingerprint,
          claim: () => this.tryClaim(request),
          inFlight: (leaseLeftMs: number) => this.inFlight(request.operation, leaseLeftMs),
        };
        const { leaseLeftMs } = found;
        found = await this.waits.wait(record, waiter, { leaseLeftMs, timeoutMs: request.waitTimeoutMs });
      }
      return found.kind === 'replay' ? replayOf(record, found.result, report) : found;
    } catch (error) {
      if (error instanceof IdempotencyInFlightError) report('in-flight', { error });
      else if (error instanceof IdempotencyMismatchError) report('mismatch', { error });
      else if (error instanceof IdempotencyCallerMismatchError) {
        report('caller-mismatch', { error });
        this.warnOfCaller(request);
      } else if (waited || error instanceof IdempotencyRecordError) report('failed', { error });
      // A call that waited knows of a run that may still be active.
      else if (error instanceof RedisUnavailableError && onUnavailable === 'run')
        return this.unprotected(request, error);
      throw error;
    }
  }

  /** Tells a duplicate of a run under way when to come again. */
  inFlight(operation: string, leaseLeftMs: number): IdempotencyInFlightError {
    return new IdempotencyInFlightError(this.durations.retryAfterMs(operation, leaseLeftMs));
  }

  /** Forgets what this process knows of the record. */
  forget(record: string): void {
    this.cache?.delete(record);
  }

  /**
   * Stops renewing and releases nothing: the lease decides about a run that has not settled.
   * Rejects all waiters.
   */
  close(): void {
    const reason = this.connection.closedError();
    this.leases.close(reason);
    this.waits.close(reason);
    this.cache?.clear();
  }

  private async tryClaim(
    request: ClaimRequest,
  ): Promise<WaitOutcome<ClaimedRun> | (Found & { kind: 'running' })> {
    const { record, fingerprint, leaseMs, timeoutMs, durability } = request;
    const owner: Owner = { record, fingerprint, token: randomId('base64url') };
    const claimedAt = performance.now();
    const generation = this.cache?.generation;
    let reply: ClaimReply;
    try {
      const lasting = request.onAbandoned === 'run' ? undefined : this.lastingClaim(owner, request);
      const deadline = Deadline.in(timeoutMs);
      // No copy of it takes effect after its lease, when the key may be another's. The outcome of
      // the key's run is available for longer.
      const notAfter = leaseMs < timeoutMs ? Deadline.in(leaseMs) : undefined;
      const wantsTtl = this.cache !== undefined;
      reply = await this.store.claim(owner, leaseMs, deadline, { durability, notAfter, wantsTtl }, lasting);
    } catch (error) {
      if (!(error instanceof OutcomeUnknownError || error instanceof NotReplicatedError)) throw error;
      const seen = error instanceof NotReplicatedError ? (error.result as ClaimReply) : undefined;
      if (!seen || seen.kind === 'claimed') {
        // The claim was applied, or may have been, or may still be, up to its time limit. No work
        // will run under it.
        this.giveBack(owner, request);
        throw this.connection.unavailable(error);
      }
      // The claim found a record and changed nothing, so there is nothing to replicate.
      reply = seen;
    }
    const found = this.store.found(owner, reply);
    if (found.kind === 'running') return found;
    if (found.kind === 'done') {
      if (generation === this.cache?.generation && found.result.kind !== 'unreadable')
        this.cache?.set(record, fingerprint, found.result, found.ttlMs);
      return { kind: 'replay', result: found.result };
    }
    if (performance.now() - claimedAt > leaseMs / 2) {
      // Answered so late, or this process stood still so long, that the lease may end before it is
      // renewed.
      this.giveBack(owner, request);
      throw this.connection.unavailable(new Error('the claim was answered too late for its lease'));
    }
    const run = new OwnedRun(owner, claimedAt, request, this.surroundings, found.trace);
    return found.trace && run.resumed ? await this.judge(run, request) : { kind: 'run', run };
  }

  private lastingClaim({ token }: Owner, request: ClaimRequest): LastingClaim {
    const { heldTtlMs } = this.surroundings.limits;
    return { trace: firstTrace(token, request, heldTtlMs), keepMs: keepMsOf(request, heldTtlMs) };
  }

  /**
   * Decides if a run may continue the work of another.
   *
   * @throws IdempotencyResultUnavailableError when the key is held instead
   * @throws ProbeFailedError
   */
  private async judge(run: OwnedRun, request: ClaimRequest): Promise<WaitOutcome<ClaimedRun>> {
    const { record, maxAttempts, onAbandoned, codec } = request;
    const hold = async (reason: HoldReason): Promise<never> => {
      await run.complete(tombstone(reason));
      throw new IdempotencyResultUnavailableError(reason, record);
    };
    if (run.attempt > maxAttempts) return await hold('attempts-exhausted');
    if (!run.isAbandoned || onAbandoned === 'run') return { kind: 'run', run };
    if (onAbandoned === 'hold') return await hold('abandoned');
    const { probeTimeoutMs, maxResultBytes } = this.surroundings.limits;
    let finding: AbandonedFinding;
    try {
      finding = await abandonedFinding(onAbandoned, run, probeTimeoutMs);
    } catch (error) {
      await run.abandon();
      throw error;
    }
    if (finding === 'run') return { kind: 'run', run };
    if (finding === 'hold') return await hold('abandoned');
    const result =
      'response' in finding
        ? limited(storedResponse(finding.response), maxResultBytes)
        : storedValue(finding.result, codec, maxResultBytes, { operation: request.operation });
    await run.complete(result);
    return { kind: 'replay', result };
  }

  private giveBack(owner: Owner, request: ClaimRequest): void {
    const terms = { memoryMs: memoryMsOf(request), hasRun: false };
    const lasting = request.onAbandoned === 'run' ? undefined : { trace: undefined };
    void this.finish(this.store.release(owner, terms, Deadline.in(request.leaseMs), lasting), request);
  }

  /**
   * The client learns only that another caller has the key; the log says how to mend a wrong
   * refusal.
   */
  private warnOfCaller({ operation }: ClaimRequest): void {
    this.logger.warn(
      `A call${operation && ` of ${operation}`} was refused: its idempotency key was used before with another credential, session, tenant or host. ` +
        `If both calls come from one caller, say how to recognise it: @Idempotent({ scope: (…) => … }), or idempotency: { scope: (request) => … } of the module`,
    );
  }

  private unprotected(request: ClaimRequest, error: RedisUnavailableError): Claim {
    this.logger.warn(
      `${request.operation || 'A call'} runs without protection against being repeated (onUnavailable: 'run'): ${error.message}`,
    );
    return { kind: 'run', run: new UnprotectedRun(request, this.connection) };
  }

  /**
   * Waits as long as one step may take, and leaves the rest to the background; shutdown waits for
   * it. Never rejects.
   */
  private finish(step: Promise<unknown>, { timeoutMs }: ClaimRequest): Promise<void> {
    this.work.enter();
    return new Promise((resolve) => {
      const alarm = schedule(Deadline.in(timeoutMs).at, resolve);
      const ended = (): void => {
        this.work.leave();
        unschedule(alarm);
        resolve();
      };
      step.then(ended, (error: Error) => {
        this.logger.warn(
          `The end of a run could not be recorded; its key stays taken until its lease ends: ${error.message}`,
        );
        ended();
      });
    });
  }
}

/** @param report called at the first reading, with what came of it */
function replayOf(
  record: string,
  result: StoredResult,
  report: (outcome: Outcome, failure?: { error: unknown }) => void,
): Replay {
  return {
    kind: 'replay',
    read: (reader) => {
      try {
        const read = reader(result);
        report('replayed');
        return read;
      } catch (error) {
        // Anything else is what the first call came to.
        if (error instanceof IdempotencyRecordError) report('failed', { error });
        else report('replayed');
        if (error instanceof IdempotencyResultUnavailableError)
          throw new IdempotencyResultUnavailableError(error.reason, record);
        throw error;
      }
    },
  };
}
