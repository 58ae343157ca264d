import { Logger } from '@nestjs/common';
import { NotReplicatedError } from '../atomic-redis.errors.js';
import type { AtomicRedisEvents, IdempotencyRunEvent } from '../observability/events.js';
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
  readonly events: AtomicRedisEvents;
  readonly maxResultBytes: number;
  /** Waits for the last step of a run as long as its caller may be kept waiting. */
  readonly finish: (step: Promise<unknown>) => Promise<void>;
}

/** The run of an owner who has just claimed the record. */
export function runOf(
  owner: Owner,
  claimedAt: number,
  request: ClaimRequest,
  { connection, store, leases, cache, events, maxResultBytes, finish }: RunSurroundings,
): ClaimedRun {
  const { ttlMs, leaseMs, maxRunMs, operation, codec, durability } = request;
  const { record, fingerprint } = owner;
  const abort = new AbortController();
  let hasEnded = false;
  const lease: Lease = {
    ...owner,
    leaseMs,
    maxRunMs,
    lost: (reason) => {
      if (!hasEnded) abort.abort(reason);
    },
  };
  leases.hold(lease, claimedAt);
  const commit = new RunCommit(connection, leases, { store, lease, ttlMs, codec }, maxResultBytes);

  type Outcome = IdempotencyRunEvent['outcome'];
  let replicated = true;
  const report = (outcome: Outcome): void => {
    const durationMs = performance.now() - claimedAt;
    events.emit(() => ({ type: 'idempotency.run', outcome, operation, record, durationMs, replicated }));
  };

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
    within: (method) => withParticipant(commit, method),
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
export function unprotectedRun(): ClaimedRun {
  return {
    signal: new AbortController().signal,
    within: (method) => withParticipant(UNPROTECTED, method),
    complete: () => Promise.resolve(),
    release: () => Promise.resolve(),
    abandon: () => Promise.resolve(),
  };
}
