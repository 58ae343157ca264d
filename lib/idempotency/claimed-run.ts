import { Logger } from '@nestjs/common';
import { ModuleClosedError, NotReplicatedError } from '../atomic-redis.errors.js';
import type { IdempotencyRunEvent } from '../observability/event-types.js';
import { errorName, type Operation } from '../observability/observer.js';
import { UNPROTECTED, withParticipant } from '../redis/commit-participant.js';
import { Deadline } from '../redis/deadline.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import type { ClaimedRun, ClaimRequest } from './idempotent-run.js';
import type { Lease, LeaseKeeper } from './lease-keeper.js';
import type { Owner, RecordStore } from './record-store.js';
import type { ReplayCache } from './replay-cache.js';
import { RunCommit } from './run-commit.js';
import type { StoredResult } from './stored-result.js';

const logger = new Logger('IdempotencyService');

/** What a run needs of the service it belongs to. */
export interface RunSurroundings {
  readonly connection: RedisConnection;
  readonly store: RecordStore;
  readonly leases: LeaseKeeper;
  readonly cache: ReplayCache | undefined;
  readonly maxResultBytes: number;
  /** Waits for the last step of a run as long as its caller may be kept waiting. */
  readonly finish: (step: Promise<unknown>) => Promise<void>;
}

/** The run of an owner who has just claimed the record. */
export function runOf(
  owner: Owner,
  claimedAt: number,
  request: ClaimRequest,
  { connection, store, leases, cache, maxResultBytes, finish }: RunSurroundings,
): ClaimedRun {
  const { observed, ttlMs, leaseMs, maxRunMs, operation, codec, durability } = request;
  const { record, fingerprint } = owner;
  const abort = new AbortController();
  let hasEnded = false;
  const lease: Lease = {
    ...owner,
    leaseMs,
    maxRunMs,
    lost: (reason) => {
      if (hasEnded) return;
      // That the module closes is no loss: the lease is left to itself.
      if (!(reason instanceof ModuleClosedError))
        observed.within(() =>
          connection.observer.occurred({
            type: 'lease.lost',
            pattern: 'idempotency',
            name: operation,
            error: errorName(reason),
          }),
        );
      abort.abort(reason);
    },
  };
  leases.hold(lease, claimedAt);
  const commit = new RunCommit(connection, leases, { store, lease, ttlMs, codec }, maxResultBytes);

  type Outcome = IdempotencyRunEvent['outcome'];
  let replicated = true;
  const { within, failure } = observedMethod(observed, commit);
  const report = (outcome: Outcome): void =>
    observed.end(() => ({
      type: 'idempotency.run',
      outcome,
      operation,
      record,
      replicated,
      ...failure(),
    }));

  const told = async (step: Promise<Outcome>, known?: (outcome: Outcome) => void): Promise<void> => {
    let outcome: Outcome = 'unrecorded';
    try {
      outcome = await step;
      known?.(outcome);
    } catch {
      // `finish` says why.
    }
    report(outcome);
  };

  /** The lease is kept up meanwhile. */
  const storeResult = async (result: StoredResult): Promise<Outcome> => {
    try {
      return await store.complete(owner, result, ttlMs, Deadline.in(leaseMs), durability);
    } catch (error) {
      if (!(error instanceof NotReplicatedError)) throw error;
      replicated = false;
      logger.warn(`The result of a run was stored, but ${error.message}`);
      return error.result as Outcome;
    } finally {
      leases.letGo(lease);
    }
  };

  const giveBack = (): Promise<Outcome> => {
    leases.letGo(lease);
    return store.release(owner, memoryMsOf(request), Deadline.in(leaseMs));
  };

  return {
    signal: abort.signal,
    within,
    complete: async (result) => {
      hasEnded = true;
      const sealed = store.seal(record, result);
      const stored = storeResult(sealed);
      void told(stored, (outcome) => {
        if (outcome === 'stale')
          logger.warn(
            'A run lost its lease to another before it was done; the result of the other one stands',
          );
        if (outcome === 'completed' && sealed.kind !== 'tombstone')
          cache?.set(record, fingerprint, result, ttlMs);
      });
      await finish(stored);
    },
    release: async () => {
      const released = giveBack();
      void told(released);
      await finish(released);
    },
    abandon: () => finish(giveBack()),
  };
}

/** For how long copies of a run's claim and renewals may yet arrive after its end, in milliseconds. */
export const memoryMsOf = ({ leaseMs, timeoutMs }: Pick<ClaimRequest, 'leaseMs' | 'timeoutMs'>): number =>
  Math.max(leaseMs, timeoutMs) + 1_000;

/** A run without a record: nothing is known of other calls, and nothing is kept of this one. */
export function unprotectedRun({ observed, operation, record }: ClaimRequest): ClaimedRun {
  const { within, failure } = observedMethod(observed, UNPROTECTED);
  const end = (): Promise<void> => {
    observed.end(() => ({ type: 'idempotency.unprotected', operation, record, ...failure() }));
    return Promise.resolve();
  };
  return { signal: new AbortController().signal, within, complete: end, release: end, abandon: end };
}

/** Runs methods as part of a run, and keeps how the last one failed. */
function observedMethod(
  observed: Operation,
  participant: Parameters<typeof withParticipant>[0],
): Pick<ClaimedRun, 'within'> & { failure: () => { error?: string } } {
  let failed: { error: unknown } | undefined;
  return {
    within: async (method) => {
      failed = undefined;
      try {
        return await observed.within(() => withParticipant(participant, method));
      } catch (error) {
        failed = { error };
        throw error;
      }
    },
    failure: () => (failed ? { error: errorName(failed.error) } : {}),
  };
}
