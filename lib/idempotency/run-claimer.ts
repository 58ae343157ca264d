import { randomBytes } from 'node:crypto';
import { Logger } from '@nestjs/common';
import { OutcomeUnknownError } from '../atomic-redis.errors.js';
import { Deadline } from '../redis/deadline.js';
import { withParticipant } from '../redis/commit-participant.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import type { ArgumentsOf } from '../redis/script.js';
import type { ScriptRunner } from '../redis/script-runner.js';
import type { WorkInFlight } from '../redis/work-in-flight.js';
import { claimScript } from './claim.script.js';
import { completeScript } from './complete.script.js';
import {
  IdempotencyInFlightError,
  IdempotencyMismatchError,
  IdempotencyRecordError,
} from './idempotency.errors.js';
import type { Claim, ClaimedRun, ClaimRequest } from './idempotent-run.js';
import { LeaseKeeper, type Lease } from './lease-keeper.js';
import { recordId } from './record-key.js';
import { releaseScript } from './release.script.js';
import { renewScript } from './renew.script.js';
import { RunCommit } from './run-commit.js';
import type { ResultKind, StoredResult } from './stored-result.js';

/** Claims keys and makes the runs that hold them. The one place that reads what the record scripts answer. */
export class RunClaimer {
  private readonly logger = new Logger('IdempotencyService');
  private readonly leases = new LeaseKeeper();

  constructor(
    private readonly scripts: ScriptRunner,
    private readonly connection: RedisConnection,
    private readonly work: WorkInFlight,
    private readonly maxResultBytes: number,
  ) {}

  /**
   * One round trip.
   *
   * @throws IdempotencyInFlightError, IdempotencyMismatchError, IdempotencyRecordError
   * @throws RedisUnavailableError when the key could not be claimed in time; what may have been claimed is released again
   */
  async claim(request: ClaimRequest): Promise<Claim> {
    const record = this.recordKey(request);
    const token = randomBytes(16).toString('hex');
    const claimedAt = performance.now();
    const { fingerprint, leaseMs, stepTimeoutMs } = request;
    const reply = await this.scripts
      .run(claimScript, { record }, { token, fingerprint, leaseMs }, Deadline.in(stepTimeoutMs))
      .catch((error: unknown) => {
        // It may have been applied, or be applied yet, up to its time limit: nobody will run under it.
        if (!(error instanceof OutcomeUnknownError)) throw error;
        this.inBackground(this.releaseRecord(record, token, leaseMs));
        throw this.connection.unavailable(error);
      });
    switch (reply.kind) {
      case 'claimed':
        return { kind: 'run', run: this.startRun(record, token, claimedAt, request) };
      case 'done':
        return { kind: 'replay', result: { kind: reply.resultKind as ResultKind, bytes: reply.result } };
      case 'running':
        throw new IdempotencyInFlightError(reply.leaseLeftMs);
      case 'mismatch':
        throw new IdempotencyMismatchError();
      default:
        throw new IdempotencyRecordError();
    }
  }

  /** Renews nothing from now on, and releases nothing: a run that has not settled is left to its lease. */
  close(): void {
    this.leases.close(this.connection.closedError());
  }

  /** In a slot of its own, or in that of the keys it is to be committed with. */
  private recordKey({ scope, operation, key, colocateWith }: ClaimRequest): string {
    const { keys } = this.connection;
    const id = recordId(scope, operation, key);
    return colocateWith === undefined
      ? keys.own('idempotency', id)
      : keys.inSlot('idempotency', keys.slotOf(colocateWith), id);
  }

  private startRun(record: string, token: string, claimedAt: number, request: ClaimRequest): ClaimedRun {
    const { fingerprint, leaseMs, ttlMs } = request;
    const abort = new AbortController();
    const lease: Lease = {
      leaseMs,
      renew: () =>
        this.scripts.run(renewScript, { record }, { token, fingerprint, leaseMs }, Deadline.in(leaseMs / 3)),
      lost: (reason) => abort.abort(reason),
    };
    this.leases.hold(lease, claimedAt);
    const run = { record, token, fingerprint, ttlMs, lease };
    const commit = new RunCommit(this.connection, this.leases, run, this.maxResultBytes);
    return {
      signal: abort.signal,
      within: (method) => withParticipant(commit, method),
      complete: async ({ kind, bytes }: StoredResult): Promise<void> => {
        this.leases.letGo(lease);
        const args = { token, fingerprint, ttlMs, kind, result: bytes };
        await this.waitOrGoOn(this.storeResult(record, args, leaseMs), request);
      },
      release: async (): Promise<void> => {
        this.leases.letGo(lease);
        await this.waitOrGoOn(this.releaseRecord(record, token, leaseMs), request);
      },
    };
  }

  private async storeResult(
    record: string,
    args: ArgumentsOf<typeof completeScript.args>,
    leaseMs: number,
  ): Promise<void> {
    if (await this.scripts.run(completeScript, { record }, args, Deadline.in(leaseMs))) return;
    this.logger.warn(
      'A run lost its lease to another before it was done; the result of the other one stands',
    );
  }

  private async releaseRecord(record: string, token: string, leaseMs: number): Promise<void> {
    await this.scripts.run(releaseScript, { record }, { token }, Deadline.in(leaseMs));
  }

  /** Waits as long as one step may take, and leaves the rest to the background; shutdown waits for it. */
  private async waitOrGoOn(
    step: Promise<void>,
    { stepTimeoutMs }: Pick<ClaimRequest, 'stepTimeoutMs'>,
  ): Promise<void> {
    this.inBackground(this.work.track(() => step));
    await Deadline.in(stepTimeoutMs)
      .race(step, () => new Error('left to the background'))
      .catch(() => undefined);
  }

  private inBackground(step: Promise<void>): void {
    step.catch((error: Error) => {
      this.logger.warn(
        `The end of a run could not be recorded; its key stays taken until its lease ends: ${error.message}`,
      );
    });
  }
}
