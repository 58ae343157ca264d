import { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { OperationRunner } from '../operations/operation-runner.js';
import type { SendOptions } from '../scripting/script-call.js';
import type { ScriptRunner } from '../scripting/script-runner.js';
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
import { mismatchOf } from './record-key.js';
import * as operation from './record.operations.js';
import type { RecordSummary } from './record-summary.js';
import { completion, runningRecord } from './record-text.js';
import { releaseScript, type Release } from './release.script.js';
import { renewScript } from './renew.script.js';
import type { Owner, RunLease } from './run-lease.js';
import type { ResultSealer } from './result-sealer.js';
import { traceText, type RunTrace } from './run-trace.js';
import { claimLastingScript } from './steps/claim-lasting.script.js';
import { releaseLastingScript } from './steps/release-lasting.script.js';
import { indexOf, stepKeysOf } from './steps/step-keys.js';
import type { ResultKind, StoredResult } from './stored-result.js';
import { untilAccepted } from './until-accepted.js';

/** The state that a claim found. */
export type Found =
  | { readonly kind: 'claimed'; readonly trace?: RunTrace }
  | { readonly kind: 'running'; readonly leaseLeftMs: number }
  | { readonly kind: 'done'; readonly result: StoredResult; readonly ttlMs: number };

/** The claim of a run whose record is to outlive its lease. */
export interface LastingClaim {
  readonly trace: RunTrace;
  /** Time for which the index has the record, in milliseconds. */
  readonly keepMs: number;
}

/** The terms on which a key is given back. */
export interface ReleaseTerms {
  /** Time for which copies of the owner's claim and renewals may yet arrive, in milliseconds. */
  readonly memoryMs: number;
  /** False if the method was not begun. */
  readonly hasRun: boolean;
}

/** The release of a run whose record outlives its lease. */
export interface LastingRelease {
  /** The trace of a run that surely has steps, also if Redis has lost them. */
  readonly trace: RunTrace | undefined;
}

/**
 * The records in Redis: the one place that sends their scripts, reads what they answer, and
 * encrypts what is in them.
 */
export class RecordStore {
  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly operations: OperationRunner,
    private readonly sealer: ResultSealer,
  ) {
    connection.preload([claimScript, claimLastingScript, renewScript, completeScript]);
    connection.preload([releaseScript, releaseLastingScript]);
  }

  /**
   * Takes one round trip. Pass the reply to {@link found}.
   *
   * @param options `wantsTtl`: tell for how long a result is still kept
   * @throws NotReplicatedError with the reply, when replicas did not have the record in time
   * @throws RedisUnavailableError, OutcomeUnknownError
   */
  claim(
    owner: Owner,
    leaseMs: number,
    deadline: Deadline,
    { wantsTtl, ...options }: Pick<SendOptions, 'durability' | 'notAfter'> & { readonly wantsTtl: boolean },
    lasting?: LastingClaim,
  ): Promise<ClaimReply> {
    const args = { running: runningRecord(owner), leaseMs, wantsTtl: wantsTtl ? '1' : '' };
    const { record } = owner;
    if (!lasting) return this.scripts.run(claimScript, { record }, args, deadline, options);
    const keys = { record, index: stepKeysOf(this.connection, record).index };
    const lastingArgs = { ...args, trace: traceText(lasting.trace), keepMs: lasting.keepMs };
    return this.scripts.run(claimLastingScript, keys, lastingArgs, deadline, options);
  }

  /**
   * Reads the answer to a claim. A result that cannot be decrypted is `unreadable`.
   * @throws IdempotencyCallerMismatchError, IdempotencyMismatchError, IdempotencyRecordError
   */
  found({ record, fingerprint }: Owner, reply: ClaimReply): Found {
    switch (reply.kind) {
      case 'claimed':
      case 'running':
        return reply;
      case 'done': {
        if (reply.fingerprint !== fingerprint) throw mismatchOf(reply.fingerprint, fingerprint);
        const result = this.sealer.open(record, {
          kind: reply.resultKind as ResultKind,
          bytes: reply.result,
        });
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
   * Renews the leases by one round trip for all; on a Cluster, by one for each slot, at the same
   * time.
   * @param lengthMs in place of each lease's own length
   */
  renew(due: readonly RunLease[], lengthMs?: number): readonly Promise<Renewal>[] {
    const { isCluster, keys } = this.connection;
    const slotOf = ({ record }: RunLease): number => (isCluster ? keys.slotOf(record) : 0);
    return renewInBatches(due, lengthMs, slotOf, ({ leases, lengths, deadline }) => {
      const fields = leases.flatMap(({ token, fingerprint, trace }, i) => [
        token,
        fingerprint,
        lengths[i]!,
        trace ? traceText(trace) : '',
      ]);
      const records = leases.map(({ record }) => record);
      const index = indexOf(this.connection, slotOf(leases[0]!));
      return this.scripts.run(renewScript, { index, records }, { leases: fields }, deadline);
    });
  }

  /**
   * Keeps trying while Redis refuses it for want of memory or disk.
   *
   * @param result as {@link seal} made it
   * @throws NotReplicatedError when it was stored, and replicas did not have it in time
   */
  complete(
    owner: Owner,
    result: StoredResult,
    ttlMs: number,
    deadline: Deadline,
    durability: DurabilityOptions | undefined,
  ): Promise<Completion> {
    const { record } = owner;
    const args = completion(owner, result, ttlMs);
    return untilAccepted(deadline, () =>
      this.scripts.run(completeScript, { record }, args, deadline, { durability }),
    );
  }

  /** @param lasting of a run whose record outlives its lease */
  release(
    { record, token, fingerprint }: Owner,
    { memoryMs, hasRun }: ReleaseTerms,
    deadline: Deadline,
    lasting?: LastingRelease,
  ): Promise<Release> {
    const args = { token, memoryMs, hasRun: hasRun ? 1 : 0 };
    if (!lasting) return this.scripts.run(releaseScript, { record }, args, deadline);
    const keys = { record, index: stepKeysOf(this.connection, record).index };
    const trace = lasting.trace ? traceText(lasting.trace) : '';
    return this.scripts.run(releaseLastingScript, keys, { ...args, fingerprint, trace }, deadline);
  }

  /** @throws IdempotencyRecordError */
  inspect(record: string, deadline: Deadline): Promise<RecordSummary | null> {
    return this.operations.part(operation.inspect, record, { deadline });
  }

  /**
   * Deletes what is there if it is what was seen.
   * @param trace with other keys for third parties
   * @returns false when it is something else by now
   */
  forget(
    record: string,
    { token }: RecordSummary,
    trace: RunTrace | undefined,
    deadline: Deadline,
  ): Promise<boolean> {
    const keys = stepKeysOf(this.connection, record);
    return this.operations.part(operation.forget, { keys, token, trace }, { deadline });
  }

  /**
   * Gives a key its result, if what is there is what was seen.
   * @returns false when it is something else by now
   */
  settle(
    record: string,
    { token }: RecordSummary,
    result: StoredResult,
    ttlMs: number,
    deadline: Deadline,
  ): Promise<boolean> {
    const { kind, bytes } = this.seal(record, result);
    const keys = stepKeysOf(this.connection, record);
    return this.operations.part(operation.settle, { keys, token, kind, ttlMs, result: bytes }, { deadline });
  }

  /** As it is to be stored. A result that cannot be encrypted is not stored at all. */
  seal(record: string, result: StoredResult): StoredResult {
    return this.sealer.seal(record, result);
  }
}
