import { Deadline, fullJitter, sleep } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { OperationRunner } from '../operations/operation-runner.js';
import type { ScriptRunner } from '../scripting/script-runner.js';
import { Logger } from '@nestjs/common';
import { RedisReplyError } from '../atomic-redis.errors.js';
import type { DurabilityOptions } from '../connection/durability.js';
import { claimScript, type ClaimReply } from './claim.script.js';
import { completeScript, type Completion } from './complete.script.js';
import {
  IdempotencyCallerMismatchError,
  IdempotencyMismatchError,
  IdempotencyRecordError,
} from './idempotency.errors.js';
import * as operation from './record.operations.js';
import type { RecordSummary } from './record-summary.js';
import type { Lease } from './lease-keeper.js';
import { releaseScript, type Release } from './release.script.js';
import { renewScript, type Renewal } from './renew.script.js';
import type { ResultEncryption } from './result-codec.js';
import { bytesOf, toBuffer, tombstone, type ResultKind, type StoredResult } from './stored-result.js';

/** The number of leases that one call renews. */
const LEASES_PER_CALL = 256;

/** The state that a claim found. */
export type Found =
  | { readonly kind: 'claimed' }
  | { readonly kind: 'running'; readonly leaseLeftMs: number }
  | { readonly kind: 'done'; readonly result: StoredResult; readonly ttlMs: number };

/** The owner of a record, or a run that is about to own it. */
export type Owner = Pick<Lease, 'record' | 'token' | 'fingerprint'>;

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

  /** One round trip for all; on a Cluster, one for each slot, at the same time. Rejects when none was answered. */
  async renew(leases: readonly Lease[]): Promise<readonly Renewal[]> {
    const deadline = Deadline.in(Math.min(...leases.map(({ leaseMs }) => leaseMs)) / 3);
    const answers = new Map<Lease, Renewal>();
    const batches = this.batchesOf(leases).map(async (batch) => {
      const fields = batch.flatMap((lease) => [lease.token, lease.fingerprint, lease.nextLengthMs]);
      const records = batch.map(({ record }) => record);
      const renewed = await this.scripts.run(renewScript, { records }, { leases: fields }, deadline);
      batch.forEach((lease, i) => answers.set(lease, renewed[i]!));
    });
    const [first] = await Promise.allSettled(batches);
    if (answers.size === 0 && first?.status === 'rejected') throw first.reason;
    return leases.map((lease) => answers.get(lease) ?? 'failed');
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

  private batchesOf(leases: readonly Lease[]): Lease[][] {
    const bySlot = new Map<number, Lease[]>();
    for (const lease of leases) {
      const slot = this.connection.isCluster ? this.connection.keys.slotOf(lease.record) : 0;
      const together = bySlot.get(slot);
      if (together) together.push(lease);
      else bySlot.set(slot, [lease]);
    }
    return [...bySlot.values()].flatMap((together) =>
      Array.from({ length: Math.ceil(together.length / LEASES_PER_CALL) }, (_, i) =>
        together.slice(i * LEASES_PER_CALL, (i + 1) * LEASES_PER_CALL),
      ),
    );
  }
}
