import type { OperationRunner } from '../../operations/operation-runner.js';
import { Deadline } from '../../runtime/deadline.js';
import type { RedisConnection } from '../../connection/redis-connection.js';
import * as step from './across-slots.operations.js';
import { read } from './pending-transfer.operations.js';
import type { PendingTransfer, TransferState } from './pending-transfer.js';
import type { DecisionOfTarget, Described, StepOptions } from './transfer-decision.js';

/** For how long after a transfer was seen open its target may decide. */
const DECIDE_WITHIN_MS = 60_000;

/**
 * How long the target keeps its decision once the transfer is closed. It has to outlive every message by which someone who saw the transfer open may still
 * ask for one, whatever steps the clocks make; and where a failover of the source loses the closing, it is the time for recovery to find that out.
 */
const DECISION_KEPT_MS = 3_600_000;

/**
 * The steps by which a transfer that was begun comes to its end. Each may be made by anyone, any number of times and late:
 *
 *     open --decide--> open, decided --close--> credited | refunded --expire the decision--> --forget--> gone
 *
 * docs/cross-slot-transfers.md tells what a crash between any two of them leaves, and why a late copy of each does nothing.
 */
export class TransferSteps {
  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
  ) {}

  /**
   * Until when the target may decide, in its own time. To be asked for before the transfer is seen open, and not again: then the transfer was closed later than
   * that, if at all, and the decision is kept for longer.
   */
  async validUntilMs(to: string, timeoutMs: number): Promise<number> {
    const deadline = Deadline.in(Math.min(timeoutMs, DECIDE_WITHIN_MS));
    return await this.connection.inServerTime(deadline, this.connection.keys.slotOf(to));
  }

  /** As {@link validUntilMs}, for a target that took a transfer for late which is in time. */
  async validUntilAgainMs(to: string, timeoutMs: number): Promise<number> {
    const { connection } = this;
    await connection.relearnClock(connection.keys.slotOf(to), Deadline.in(timeoutMs));
    return await this.validUntilMs(to, timeoutMs);
  }

  /** Reads the transfer as it is now; undefined when it is gone. */
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
   * @returns what it became, by this or before; undefined when it is gone
   * @throws NotAnIntegerError, BalanceOverflowError when the amount cannot be given back; it stays open
   */
  close(
    transfer: Described,
    decision: DecisionOfTarget,
    options: StepOptions,
  ): Promise<TransferState | undefined> {
    return this.operations.part(step.close, { transfer, decision }, options);
  }

  /** Removes what is left of a transfer that was closed: first at the target, since what is not listed any more nobody would look for. */
  async tidyUp(transfer: Described, options: StepOptions): Promise<void> {
    await this.operations.part(step.expireDecision, { transfer, ttlMs: DECISION_KEPT_MS }, options);
    await this.operations.part(step.forget, transfer, { deadline: options.deadline });
  }
}
