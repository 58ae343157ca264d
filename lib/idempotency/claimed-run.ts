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
  const lease: Lease = { ...owner, leaseMs, maxRunMs, lost: (reason) => abort.abort(reason) };
  leases.hold(lease, claimedAt);
  const commit = new RunCommit(connection, leases, { store, lease, ttlMs, codec }, maxResultBytes);

  type Outcome = IdempotencyRunEvent['outcome'];
  let replicated = true;
  const end = async (step: (deadline: Deadline) => Promise<Outcome>): Promise<void> => {
    leases.letGo(lease);
    const ended = step(Deadline.in(leaseMs));
    const report = (outcome: Outcome): void => {
      const durationMs = performance.now() - claimedAt;
      events.emit(() => ({ type: 'idempotency.run', outcome, operation, record, durationMs, replicated }));
    };
    ended.then(report, () => report('unrecorded'));
    await finish(ended);
  };

  return {
    signal: abort.signal,
    within: (method) => withParticipant(commit, method),
    complete: (result: StoredResult) =>
      end(async (deadline) => {
        const stands = await store
          .complete(owner, result, ttlMs, deadline, durability)
          .catch((error: unknown) => {
            if (!(error instanceof NotReplicatedError)) throw error;
            replicated = false;
            logger.warn(`The result of a run was stored, but ${error.message}`);
            return error.result as boolean;
          });
        if (!stands) {
          logger.warn(
            'A run lost its lease to another before it was done; the result of the other one stands',
          );
          return 'stale';
        }
        if (result.kind === 'tombstone') return 'held';
        cache?.set(record, fingerprint, result, ttlMs);
        return 'completed';
      }),
    release: () =>
      end(async (deadline) => {
        const release = await store.release(owner, deadline);
        return release === 'kept' ? 'held' : release;
      }),
  };
}

/** A run without a record: nothing is known of other calls, and nothing is kept of this one. */
export function unprotectedRun(): ClaimedRun {
  return {
    signal: new AbortController().signal,
    within: (method) => withParticipant(UNPROTECTED, method),
    complete: () => Promise.resolve(),
    release: () => Promise.resolve(),
  };
}
