import { Deadline, fullJitter, sleep } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { OperationRunner } from '../operations/operation-runner.js';
import type { ScriptRunner } from '../scripting/script-runner.js';
import { Logger } from '@nestjs/common';
import { RedisReplyError } from '../atomic-redis.errors.js';
import type { DurabilityOptions } from '../connection/durability.js';
import { renewInBatches } from '../leases/batched-renewal.js';
import type { Renewal } from '../leases/lease-keeper.js';
import { claimScript, type ClaimReply } from './claim.script.js';
import { completeScript, type Completion } from './complete.script.js';
import {
  IdempotencyCallerMismatchError,
  IdempotencyMismatchError,
  IdempotencyRecordError,
} from './idempotency.errors.js';
import * as operation from './record.operations.js';
import type { RecordSummary } from './record-summary.js';
import { releaseScript, type Release } from './release.script.js';
import { renewScript } from './renew.script.js';
import type { ResultEncryption } from './result-codec.js';
import type { Owner, RunLease } from './run-lease.js';
import { bytesOf, toBuffer, tombstone, type ResultKind, type StoredResult } from './stored-result.js';

/** The state that a claim found. */
export type Found =
  | { readonly kind: 'claimed' }
  | { readonly kind: 'running'; readonly leaseLeftMs: number }
  | { readonly kind: 'done'; readonly result: StoredResult; readonly ttlMs: number };

/** The records in Redis: the one place that sends their scripts, reads what they answer, and encrypts what is in them. */
export class RecordStore {
  private readonly logger = new Logger('IdempotencyService');

  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly operations: OperationRunner,
    private readonly encryption: ResultEncryption | undefined,
  ) {
    connection.preload([claimScript, renewScript, completeScript, releaseScript]);
  }

  /**
   * Takes one round trip. Pass the reply to {@link found}.
   *
   * @throws NotReplicatedError with the reply, when replicas did not have the record in time
   * @throws RedisUnavailableError, OutcomeUnknownError
   */
  claim(
    { record, token, fingerprint }: Owner,
    leaseMs: number,
    deadline: Deadline,
    durability: DurabilityOptions | undefined,
  ): Promise<ClaimReply> {
    return this.scripts.run(claimScript, { record }, { token, fingerprint, leaseMs }, deadline, {
      durability,
    });
  }

  /**
   * Reads the answer to a claim. A result that cannot be decrypted is `unreadable`.
   * @throws IdempotencyCallerMismatchError, IdempotencyMismatchError, IdempotencyRecordError
   */
  found(record: string, reply: ClaimReply): Found {
    switch (reply.kind) {
      case 'claimed':
      case 'running':
        return reply as Found;
      case 'done': {
        const result = this.open(record, { kind: reply.resultKind as ResultKind, bytes: reply.result });
        return { kind: 'done', result, ttlMs: reply.ttlMs };
      }
      case 'caller':
        throw new IdempotencyCallerMismatchError();
      case 'mismatch':
        throw new IdempotencyMismatchError();
      default:
        throw new IdempotencyRecordError();
    }
  }

  /**
   * Renews the leases by one round trip for all; on a Cluster, by one for each slot, at the same time.
   * @param lengthMs in place of each lease's own length
   */
  renew(due: readonly RunLease[], lengthMs?: number): readonly Promise<Renewal>[] {
    const { isCluster, keys } = this.connection;
    const slotOf = ({ record }: RunLease): number => (isCluster ? keys.slotOf(record) : 0);
    return renewInBatches(due, lengthMs, slotOf, ({ leases, lengths, deadline }) => {
      const fields = leases.flatMap(({ token, fingerprint }, i) => [token, fingerprint, lengths[i]!]);
      const records = leases.map(({ record }) => record);
      return this.scripts.run(renewScript, { records }, { leases: fields }, deadline);
    });
  }

  /**
   * Goes on trying while Redis refuses it for want of memory or disk.
   *
   * @param result as {@link seal} made it
   * @throws NotReplicatedError when it was stored, and replicas did not have it in time
   */
  async complete(
    owner: Owner,
    result: StoredResult,
    ttlMs: number,
    deadline: Deadline,
    durability: DurabilityOptions | undefined,
  ): Promise<Completion> {
    const { record, token, fingerprint } = owner;
    const args = { token, fingerprint, ttlMs, kind: result.kind, result: result.bytes };
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.scripts.run(completeScript, { record }, args, deadline, { durability });
      } catch (error) {
        const mayYet = error instanceof RedisReplyError && error.retryable && error.outcome === 'not-applied';
        if (!mayYet || deadline.passed) throw error;
        await sleep(Math.min(fullJitter(attempt, 10, 500), deadline.remainingMs));
      }
    }
  }

  /** @param memoryMs for how long copies of the owner's claim and renewals may yet arrive, in milliseconds */
  release({ record, token }: Owner, memoryMs: number, deadline: Deadline): Promise<Release> {
    return this.scripts.run(releaseScript, { record }, { token, memoryMs }, deadline);
  }

  /** @throws IdempotencyRecordError */
  inspect(record: string, deadline: Deadline): Promise<RecordSummary | null> {
    return this.operations.part(operation.inspect, record, { deadline });
  }

  /** Deletes what is there if it is what was seen. @returns false when it is something else by now */
  forget(record: string, { token }: RecordSummary, deadline: Deadline): Promise<boolean> {
    return this.operations.part(operation.forget, { record, token }, { deadline });
  }

  /** As it is to be stored. A result that cannot be encrypted is not stored at all. */
  seal(record: string, result: StoredResult): StoredResult {
    if (!this.encryption || result.kind === 'tombstone') return result;
    try {
      return { kind: result.kind, bytes: toBuffer(this.encryption.encrypt(bytesOf(result), record)) };
    } catch (error) {
      this.logger.error('A result cannot be encrypted, so repeated calls will get an error', error);
      return tombstone('not-serializable');
    }
  }

  private open(record: string, result: StoredResult): StoredResult {
    if (!this.encryption || result.kind === 'tombstone') return result;
    try {
      return { kind: result.kind, bytes: toBuffer(this.encryption.decrypt(bytesOf(result), record)) };
    } catch (cause) {
      return { kind: 'unreadable', bytes: '', cause };
    }
  }
}
