import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from '../../atomic-redis.constants.js';
import {
  AtomicRedisError,
  ModuleClosedError,
  NotReplicatedError,
  OutcomeUnknownError,
} from '../../atomic-redis.errors.js';
import { Deadline } from '../../runtime/deadline.js';
import { copyDurability, type DurabilityOptions } from '../../connection/durability.js';
import type { ResolvedOptions } from '../../atomic-redis.options.js';
import { OperationRunner } from '../../operations/operation-runner.js';
import type { ResolvedDefaults } from '../../operations/operation.options.js';
import { RedisConnection } from '../../connection/redis-connection.js';
import { assertOutsideTransaction } from '../../runtime/transaction-scope.js';
import { WorkInFlight } from '../../runtime/work-in-flight.js';
import { TransferPendingError } from '../transfer.errors.js';
import type { Balances } from '../transfer.options.js';
import type {
  AcrossSlotsOptions,
  AcrossSlotsTransfer,
  PendingTransfers,
  PendingTransfersOptions,
  RecoverOptions,
  Recovery,
} from './across-slots.options.js';
import { begin } from './across-slots.operations.js';
import { PendingTransferList } from './pending-transfer-list.js';
import type { PendingTransfer, TransferState } from './pending-transfer.js';
import { refusalOf, type DecisionOfTarget, type StepOptions } from './transfer-decision.js';
import { TransferSteps } from './transfer-steps.js';

/** The most errors that a recovery reports. */
const MOST_ERRORS = 100;

/** Transfers between balances that no single script can reach, and their recovery. */
@Injectable()
export class AcrossSlotsTransfers {
  private readonly defaults: ResolvedDefaults;
  private readonly steps: TransferSteps;
  private readonly list: PendingTransferList;

  constructor(
    connection: RedisConnection,
    private readonly operations: OperationRunner,
    private readonly inFlight: WorkInFlight,
    @Inject(OPTIONS) { services }: ResolvedOptions,
  ) {
    this.defaults = services.transfers;
    this.steps = new TransferSteps(connection, operations);
    this.list = new PendingTransferList(connection, operations);
  }

  /** Once the amount was taken, each failure is reported as the target's decision or as pending. */
  async transfer(
    transfer: AcrossSlotsTransfer,
    { timeoutMs = this.defaults.timeoutMs, durability: given, propagation }: AcrossSlotsOptions,
  ): Promise<Balances & { readonly id: string }> {
    assertOutsideTransaction('Moving an amount across slots', propagation);
    const durability = copyDurability(given ?? this.defaults.durability);
    return await this.inFlight.track(async () => {
      const { to, amount } = transfer;
      const options = { deadline: Deadline.in(timeoutMs), durability };
      const validUntilMs = await this.steps.validUntilMs(to, timeoutMs);
      const begun = await this.begin(transfer, { timeoutMs, durability, propagation });
      const pending = { ...transfer, id: begun.id };
      const convert = typeof amount === 'bigint' ? BigInt : Number;
      const resultOf = (balance: string): Balances & { readonly id: string } => ({
        id: begun.id,
        from: convert(begun.balance),
        to: convert(balance),
      });

      let decision: DecisionOfTarget | undefined;
      try {
        decision = await this.decide(pending, validUntilMs, options);
      } catch (error) {
        const decided = error instanceof NotReplicatedError && (error.result as DecisionOfTarget | undefined);
        if (decided && 'balance' in decided) throw error.withResult(resultOf(decided.balance));
        throw asPending(pending, error);
      }
      if (!decision) throw pendingError(pending);
      if ('balance' in decision) {
        // The money has arrived. Recovery notes and removes what this call could not.
        await this.conclude(pending, decision, options).catch(ignoreOurs);
        return resultOf(decision.balance);
      }
      try {
        await this.steps.close(pending, decision, options);
        await this.steps.tidyUp(pending, options).catch(ignoreOurs);
      } catch (error) {
        // The amount was given back. If a failover loses that, recovery gives it back again.
        if (!(error instanceof NotReplicatedError)) throw asPending(pending, error);
      }
      throw refusalOf(decision.refusal, to, amount);
    });
  }

  async pending(options: PendingTransfersOptions): Promise<PendingTransfers> {
    return await this.inFlight.track(() =>
      this.list.page(options, options.timeoutMs ?? this.defaults.timeoutMs),
    );
  }

  async recover({
    from,
    minAgeMs = 10_000,
    timeoutMs = this.defaults.timeoutMs,
    durability: given,
    propagation,
  }: RecoverOptions): Promise<Recovery> {
    assertOutsideTransaction('Recovering transfers', propagation);
    const durability = copyDurability(given ?? this.defaults.durability);
    const count = { credited: 0, refunded: 0, failed: 0 };
    const errors: TransferPendingError[] = [];
    const settle = async (transfer: PendingTransfer): Promise<void> => {
      try {
        const became = await this.settle(transfer, timeoutMs, durability);
        if (became) count[became]++;
      } catch (error) {
        if (error instanceof ModuleClosedError) throw error;
        const pending = asPending(transfer, error);
        if (!(pending instanceof TransferPendingError)) throw pending;
        count.failed++;
        if (errors.length < MOST_ERRORS) errors.push(pending);
      }
    };
    let cursor: string | undefined;
    do {
      const read = {
        minAgeMs,
        timeoutMs,
        ...(from !== undefined && { from }),
        ...(cursor !== undefined && { cursor }),
      };
      const page: PendingTransfers = await this.pending(read);
      await this.inFlight.track(() => Promise.all(page.transfers.map(settle)));
      cursor = page.cursor;
    } while (cursor !== undefined);
    return { ...count, errors };
  }

  /**
   * Takes the amount.
   * @throws TransferPendingError when it is unknown whether it was taken, or whether replicas have
   * it
   */
  private async begin(
    transfer: AcrossSlotsTransfer,
    options: AcrossSlotsOptions,
  ): Promise<{ id: string; balance: string }> {
    try {
      return await this.operations.part(begin, transfer, options);
    } catch (error) {
      if (error instanceof OutcomeUnknownError) throw asPending(transfer, error);
      if (error instanceof NotReplicatedError) {
        const { id } = error.result as { id: string };
        throw asPending({ ...transfer, id }, error);
      }
      throw error;
    }
  }

  /**
   * Finishes a transfer that another call has begun.
   * @returns its final state; undefined if it was gone
   */
  private async settle(
    listed: PendingTransfer,
    timeoutMs: number,
    durability: DurabilityOptions | undefined,
  ): Promise<Exclude<TransferState, 'open'> | undefined> {
    const options = { deadline: Deadline.in(timeoutMs), durability };
    const validUntilMs = await this.steps.validUntilMs(listed.to, timeoutMs);
    const transfer = await this.steps.read(listed, options);
    if (!transfer) return undefined;
    if (transfer.state !== 'open') {
      await this.steps.tidyUp(transfer, options);
      return transfer.state;
    }
    const decision = await this.decide(transfer, validUntilMs, options);
    if (!decision) throw pendingError(transfer);
    await this.conclude(transfer, decision, options);
    return 'balance' in decision ? 'credited' : 'refunded';
  }

  /**
   * Asks the target for its decision. If the target says that the time is over, asks once more with
   * a new reading of the clock.
   * @returns undefined if the time is over
   */
  private async decide(
    transfer: PendingTransfer | (AcrossSlotsTransfer & { id: string }),
    validUntilMs: number,
    options: StepOptions,
  ): Promise<DecisionOfTarget | undefined> {
    const decision = await this.steps.decide(transfer, validUntilMs, options);
    const leftMs = options.deadline.remainingMs;
    if (decision || leftMs < 1) return decision;
    const again = await this.steps.validUntilAgainMs(transfer.to, Math.floor(leftMs));
    // The transfer is seen open after the clock was read, so its decision is kept for longer than
    // the question is good.
    const seen = await this.steps.read(transfer, options);
    return seen?.state === 'open' ? await this.steps.decide(transfer, again, options) : undefined;
  }

  private async conclude(
    transfer: PendingTransfer | (AcrossSlotsTransfer & { id: string }),
    decision: DecisionOfTarget,
    options: StepOptions,
  ): Promise<void> {
    await this.steps.close(transfer, decision, options);
    await this.steps.tidyUp(transfer, options);
  }
}

const ignoreOurs = (error: unknown): void => {
  if (!(error instanceof AtomicRedisError)) throw error;
};

/** @param cause why it did not end */
function pendingError(
  { id, from, to, amount, reference }: TransferPendingError['transfer'],
  cause?: AtomicRedisError,
): TransferPendingError {
  const given = { ...(id !== undefined && { id }), ...(reference !== undefined && { reference }) };
  return new TransferPendingError({ from, to, amount, ...given }, cause && { cause });
}

/** Returns a pending error for a failure of Redis or of the way to it; any other error as it is. */
const asPending = (transfer: TransferPendingError['transfer'], error: unknown): unknown =>
  error instanceof AtomicRedisError && !(error instanceof TransferPendingError)
    ? pendingError(transfer, error)
    : error;
