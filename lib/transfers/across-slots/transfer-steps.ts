import type { OperationRunner } from '../../operations/operation-runner.js';
import { Deadline } from '../../runtime/deadline.js';
import type { RedisConnection } from '../../connection/redis-connection.js';
import * as step from './across-slots.operations.js';
import { read } from './pending-transfer.operations.js';
import type { PendingTransfer, TransferState } from './pending-transfer.js';
import type { DecisionOfTarget, Described, StepOptions } from './transfer-decision.js';

/**
 * The time for which the target may decide after a process has seen the transfer open, in
 * milliseconds.
 */
const DECIDE_WITHIN_MS = 60_000;

/**
 * The time for which the target keeps its decision once the transfer is closed. The decision must
 * outlive every request of a process that saw the transfer open, whatever steps the clocks make. If
 * a failover of the source loses the closing, recovery has this time to find that out.
 */
const DECISION_KEPT_MS = 3_600_000;

/**
 * The steps that finish a transfer that was begun. Any process may take each step, any number of
 * times, and late:
 *
 *     open --decide--> open, decided --close--> credited | refunded --expire the decision--> --forget--> gone
 *
 * docs/cross-slot-transfers.md says what a crash between any two steps leaves, and why a late copy
 * of each does nothing.
 */
export class TransferSteps {
  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
  ) {}

  /**
   * Returns the time until which the target may decide, by the target's clock. Call it before the
   * transfer is seen open, and only once. Then the transfer was closed after that, if at all, and
   * its decision is kept for longer.
   */
  async validUntilMs(to: string, timeoutMs: number): Promise<number> {
    const deadline = Deadline.in(Math.min(timeoutMs, DECIDE_WITHIN_MS));
    return await this.connection.inServerTime(deadline, this.connection.keys.slotOf(to));
  }

  /**
   * Returns the same as {@link validUntilMs}, by a new reading of the clock: the target wrongly
   * judged a transfer late.
   */
  async validUntilAgainMs(to: string, timeoutMs: number): Promise<number> {
    const { connection } = this;
    await connection.relearnClock(connection.keys.slotOf(to), Deadline.in(timeoutMs));
    return await this.validUntilMs(to, timeoutMs);
  }

  /** Reads the transfer as it is now; undefined if it is gone. */
  read(transfer: Described, options: StepOptions): Promise<PendingTransfer | undefined> {
    return this.operations.part(read, transfer, options);
  }

  /** @returns undefined when it came too late to decide */
  decide(
    transfer: Described,
    validUntilMs: number,
    options: StepOptions,
  ): Promise<DecisionOfTarget | undefined> {
    return this.operations.part(step.decide, { transfer, validUntilMs }, options);
  }

  /**
   * Gives the amount back if it was refused.
   *
   * @returns its state, reached by this call or before; undefined if it is gone
   * @throws NotAnIntegerError, BalanceOverflowError when the amount cannot be given back; it stays
   * open
   */
  close(
    transfer: Described,
    decision: DecisionOfTarget,
    options: StepOptions,
  ): Promise<TransferState | undefined> {
    return this.operations.part(step.close, { transfer, decision }, options);
  }

  /**
   * Removes the keys of a closed transfer. The target's go first: no process looks for a transfer
   * that is no longer listed.
   */
  async tidyUp(transfer: Described, options: StepOptions): Promise<void> {
    await this.operations.part(step.expireDecision, { transfer, ttlMs: DECISION_KEPT_MS }, options);
    await this.operations.part(step.forget, transfer, { deadline: options.deadline });
  }
}
