import { Logger } from '@nestjs/common';
import { NotReplicatedError } from '../atomic-redis.errors.js';
import type { IdempotencyRunEvent } from '../observability/event-types.js';
import { errorName, type Operation } from '../observability/observer.js';
import { UNPROTECTED, withParticipant } from '../scripting/commit-participant.js';
import { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { LeaseKeeper } from '../leases/lease-keeper.js';
import type { ClaimedRun, ClaimRequest } from './idempotent-run.js';
import type { RecordStore } from './record-store.js';
import type { ReplayCache } from './replay-cache.js';
import { RunCommit } from './run-commit.js';
import { RunLease, type Owner } from './run-lease.js';
import type { StoredResult } from './stored-result.js';
import type { UsualDurations } from './usual-durations.js';

const logger = new Logger('IdempotencyService');

/** The parts of its service that a run needs. */
export interface RunDependencies {
  readonly connection: RedisConnection;
  readonly store: RecordStore;
  readonly leases: LeaseKeeper<RunLease>;
  readonly cache: ReplayCache | undefined;
  readonly maxResultBytes: number;
  readonly durations: UsualDurations;
  /** Waits for the last step of a run as long as its caller may be kept waiting. */
  readonly finish: (step: Promise<unknown>, request: ClaimRequest) => Promise<void>;
}

type Outcome = IdempotencyRunEvent['outcome'];

/** The run of an owner that has just claimed the record. */
export class OwnedRun implements ClaimedRun {
  private readonly lease: RunLease;
  private readonly method: ObservedMethod;
  private replicated = true;

  /** @param claimedAt monotonic time at which the claim was sent */
  constructor(
    owner: Owner,
    claimedAt: number,
    private readonly request: ClaimRequest,
    private readonly surroundings: RunDependencies,
  ) {
    const { connection, store, leases, maxResultBytes } = surroundings;
    const { observed, ttlMs, codec } = request;
    const lease = new RunLease(owner, request, claimedAt, connection.observer);
    this.lease = lease;
    leases.keep(lease);
    const commit = new RunCommit(connection, leases, { store, lease, ttlMs, codec }, maxResultBytes);
    this.method = new ObservedMethod(observed, commit);
  }

  get signal(): AbortSignal {
    return this.lease.signal;
  }

  within<T>(method: () => Promise<T> | T): Promise<T> {
    return this.method.within(method);
  }

  complete(result: StoredResult): Promise<void> {
    this.lease.end();
    return this.surroundings.finish(this.storeResult(result), this.request);
  }

  release(): Promise<void> {
    return this.surroundings.finish(this.releaseKey(), this.request);
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
    let outcome: Outcome = 'store-failed';
    try {
      outcome = await store.complete(this.lease, sealed, ttlMs, Deadline.in(leaseMs), durability);
    } catch (error) {
      if (!(error instanceof NotReplicatedError)) throw error;
      this.replicated = false;
      logger.warn(`The result of a run was stored, but ${error.message}`);
      outcome = error.result as Outcome;
    } finally {
      leases.letGo(this.lease);
      if (outcome === 'lease-lost')
        logger.warn('A run lost its lease to another before it was done; the result of the other one stands');
      if (outcome === 'completed' && sealed.kind !== 'tombstone')
        cache?.set(record, fingerprint, result, ttlMs);
      this.report(outcome);
    }
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
    return store.release(this.lease, memoryMsOf(this.request), Deadline.in(this.request.leaseMs));
  }

  private report(outcome: Outcome): void {
    const { observed, operation } = this.request;
    this.surroundings.durations.ended(operation, performance.now() - this.lease.claimedAt);
    observed.end(() => ({
      type: 'idempotency.run',
      outcome,
      operation,
      record: this.lease.record,
      replicated: this.replicated,
      ...this.method.failure,
    }));
  }
}

/** For how long copies of a run's claim and renewals may yet arrive after its end, in milliseconds. */
export const memoryMsOf = ({ leaseMs, timeoutMs }: Pick<ClaimRequest, 'leaseMs' | 'timeoutMs'>): number =>
  Math.max(leaseMs, timeoutMs) + 1_000;

/** A run without a record: nothing is known of other calls, and nothing is kept of this one. */
export function unprotectedRun({ observed, operation, record }: ClaimRequest): ClaimedRun {
  const method = new ObservedMethod(observed, UNPROTECTED);
  const end = (): Promise<void> => {
    observed.end(() => ({ type: 'idempotency.ran-unprotected', operation, record, ...method.failure }));
    return Promise.resolve();
  };
  return {
    signal: new AbortController().signal,
    within: (body) => method.within(body),
    complete: end,
    release: end,
    abandon: end,
  };
}

/** Runs methods as part of a run, and keeps how the last one failed. */
class ObservedMethod {
  private failed: { readonly error: unknown } | undefined;

  constructor(
    private readonly observed: Operation,
    private readonly participant: Parameters<typeof withParticipant>[0],
  ) {}

  async within<T>(method: () => Promise<T> | T): Promise<T> {
    this.failed = undefined;
    try {
      return await this.observed.within(() => withParticipant(this.participant, method));
    } catch (error) {
      this.failed = { error };
      throw error;
    }
  }

  get failure(): { error?: string } {
    return this.failed ? { error: errorName(this.failed.error) } : {};
  }
}
