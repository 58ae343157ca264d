import { ModuleClosedError } from '../atomic-redis.errors.js';
import { lookMsOf, type PausableLease } from '../leases/lease-keeper.js';
import { errorName, type Observer } from '../observability/observer.js';
import { LazyAbort } from '../runtime/lazy-abort.js';
import { RunTimeoutError } from './idempotency.errors.js';
import type { ClaimRequest } from './claim-request.js';
import type { RunTrace } from './run-trace.js';

/** The owner of a record, or a run that is about to own it. */
export interface Owner {
  readonly record: string;
  readonly token: string;
  /** The fingerprint of caller and payload, as in the record. */
  readonly fingerprint: string;
}

/** The part of its run's request that a lease needs. */
export type LeaseTerms = Pick<ClaimRequest, 'leaseMs' | 'maxRunMs' | 'observed' | 'operation'>;

/**
 * For how long copies of a run's claim and renewals may yet arrive after its end, in milliseconds.
 */
export const memoryMsOf = ({ leaseMs, timeoutMs }: Pick<ClaimRequest, 'leaseMs' | 'timeoutMs'>): number =>
  Math.max(leaseMs, timeoutMs) + 1_000;

/**
 * For how long the result of a run is kept whose record outlives its lease, in milliseconds: a late
 * copy must find it, or would put that record back.
 */
export const keptMsOf = (request: Pick<ClaimRequest, 'ttlMs' | 'leaseMs' | 'timeoutMs'>): number =>
  Math.max(request.ttlMs, memoryMsOf(request));

/** A run's hold on its key. */
export class RunLease implements Owner, PausableLease {
  readonly record: string;
  readonly token: string;
  readonly fingerprint: string;
  readonly leaseMs: number;
  readonly lookMs: number;
  endsAt: number;
  /**
   * The trace of a record that surely outlives the lease. A renewal gives a vanished record it
   * back.
   */
  trace: RunTrace | undefined;
  index = -1;
  pauses = 0;
  renewing: Promise<void> | undefined;
  renewals = 0;
  private readonly abort = new LazyAbort();
  /** True once the run has ended: a loss concerns it no more. */
  hasEnded = false;

  /** @param claimedAt monotonic time at which the claim was sent */
  constructor(
    { record, token, fingerprint }: Owner,
    private readonly terms: LeaseTerms,
    readonly claimedAt: number,
    private readonly observer: Observer,
  ) {
    this.record = record;
    this.token = token;
    this.fingerprint = fingerprint;
    this.leaseMs = terms.leaseMs;
    this.lookMs = Math.min(lookMsOf(terms.leaseMs), terms.maxRunMs);
    this.endsAt = claimedAt + terms.leaseMs;
  }

  get isPaused(): boolean {
    return this.pauses > 0;
  }

  /** Aborts when the lease is lost during the run. */
  get signal(): AbortSignal {
    return this.abort.signal;
  }

  /** Marks the run as ended. */
  end(): void {
    this.hasEnded = true;
  }

  overdue(now: number): Error | undefined {
    const { maxRunMs } = this.terms;
    return now - this.claimedAt > maxRunMs ? new RunTimeoutError(maxRunMs) : undefined;
  }

  lost(reason: Error): void {
    if (this.hasEnded) return;
    const { observed, operation } = this.terms;
    // A module that closes loses nothing: the lease is left to itself.
    if (!(reason instanceof ModuleClosedError))
      observed.within(() =>
        this.observer.occurred({
          type: 'lease.lost',
          pattern: 'idempotency',
          name: operation,
          error: errorName(reason),
        }),
      );
    this.abort.abort(reason);
  }
}
