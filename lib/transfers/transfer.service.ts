import { Injectable } from '@nestjs/common';
import { Observed, READ } from '../observability/observed.decorator.js';
import { Observer } from '../observability/observer.js';
import { OperationRunner } from '../operations/operation-runner.js';
import {
  checkedAcrossSlots,
  checkAcrossSlotsOptions,
  checkPendingOptions,
  checkRecoverOptions,
  type AcrossSlotsBalances,
  type AcrossSlotsOptions,
  type AcrossSlotsTransfer,
  type PendingTransfers,
  type PendingTransfersOptions,
  type RecoverOptions,
  type Recovery,
} from './across-slots/across-slots.options.js';
import { AcrossSlotsTransfers } from './across-slots/across-slots-transfers.js';
import * as operation from './transfer.operations.js';
import type { Balances, Transfer, TransferOptions } from './transfer.options.js';

/**
 * Moves integer amounts between balances, exact over the whole range of a signed 64-bit integer. A balance is an ordinary Redis string, and
 * keeps its time to live; one that does not exist counts as 0. On a Cluster, all keys of a call share a hash slot, but for {@link acrossSlots}.
 */
@Injectable()
export class TransferService {
  /** @internal */
  constructor(
    private readonly operations: OperationRunner,
    protected readonly observer: Observer,
    private readonly acrossSlotsTransfers: AcrossSlotsTransfers,
  ) {}

  /**
   * Takes the amount from one balance and adds it to the other, in one step, once, even when a reply is lost and the command is sent again.
   *
   * ```ts
   * const { from, to } = await transfers.transfer({ from: 'account:{shop}:alice', to: 'account:{shop}:bob', amount: 30 });
   * ```
   *
   * @returns both balances after it
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws InsufficientFundsError when less than `min` would be left; nothing was moved
   * @throws BalanceOverflowError when the sum would not fit into 64 bits; nothing was moved
   * @throws UnsafeIntegerError when the amount is a number and a balance would not be exact as one; nothing was moved
   * @throws NotAnIntegerError, WrongTypeError when a key holds something else; nothing was moved
   * @throws IllegalTransactionStateError inside a transaction, unless `propagation` is `'outside'`
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was moved
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not done by then, it never will be
   * @throws NotReplicatedError when it was done, and `durability` was not reached in time; `result` holds the balances
   */
  transfer(transfer: Transfer<number>, options?: TransferOptions): Promise<Balances<number>>;
  transfer(transfer: Transfer<bigint>, options?: TransferOptions): Promise<Balances<bigint>>;
  transfer(transfer: Transfer, options?: TransferOptions): Promise<Balances>;
  transfer(transfer: Transfer, options: TransferOptions = {}): Promise<Balances> {
    return this.operations.run(operation.transfer, transfer, options);
  }

  /**
   * Makes several transfers in one step, all or none. They are judged one after the other, as if each were made by itself and nobody came
   * in between: a leg may spend what one before it brought, not what one after it will bring.
   *
   * @param legs 1 to 10,000; a balance may occur in several
   * @returns both balances after each leg
   * @throws as {@link transfer} does, for the first leg that cannot be made; nothing was moved
   */
  transferAll(legs: readonly Transfer<number>[], options?: TransferOptions): Promise<Balances<number>[]>;
  transferAll(legs: readonly Transfer<bigint>[], options?: TransferOptions): Promise<Balances<bigint>[]>;
  transferAll(legs: readonly Transfer[], options?: TransferOptions): Promise<Balances[]>;
  transferAll(legs: readonly Transfer[], options: TransferOptions = {}): Promise<Balances[]> {
    return this.operations.run(operation.transferAll, legs, options);
  }

  /**
   * Moves an amount between balances in any two slots of a Cluster: not in one step, but in steps of which each can be repeated by anyone. The amount is taken and noted, the
   * target decides once whether it is paid in, and only when it refused is the amount given back. What is interrupted is brought to its end by {@link recover}.
   *
   * ```ts
   * await transfers.acrossSlots({ from: `account:{${alice}}`, to: `account:{${bob}}`, amount: 30, reference: payment.id });
   * ```
   *
   * @returns each balance as it was right after its own change
   * @throws InvalidArgumentError before any I/O
   * @throws InsufficientFundsError when less than `min` would be left; nothing was moved
   * @throws BalanceOverflowError when the sum would not fit into 64 bits; the amount was given back
   * @throws UnsafeIntegerError when the amount is a number and a balance would not be exact as one; the amount was not taken, or given back
   * @throws NotAnIntegerError when a key holds something else; the amount was not taken, or given back
   * @throws IllegalTransactionStateError inside a transaction, unless `propagation` is `'outside'`
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was moved
   * @throws TransferPendingError when it was or may have been begun, and how it ends is up to {@link recover}
   * @throws NotReplicatedError when it was done, and the target's replicas did not have it in time; `result` holds what would have been returned
   */
  acrossSlots(
    transfer: AcrossSlotsTransfer<number>,
    options?: AcrossSlotsOptions,
  ): Promise<AcrossSlotsBalances<number>>;
  acrossSlots(
    transfer: AcrossSlotsTransfer<bigint>,
    options?: AcrossSlotsOptions,
  ): Promise<AcrossSlotsBalances<bigint>>;
  acrossSlots(transfer: AcrossSlotsTransfer, options?: AcrossSlotsOptions): Promise<AcrossSlotsBalances>;
  @Observed('transfers.acrossSlots')
  async acrossSlots(
    transfer: AcrossSlotsTransfer,
    options: AcrossSlotsOptions = {},
  ): Promise<AcrossSlotsBalances> {
    const checked = checkedAcrossSlots('transfer', transfer);
    checkAcrossSlotsOptions('options', options);
    return await this.acrossSlotsTransfers.transfer(checked, options);
  }

  /**
   * Reads which transfers across slots are under way or were interrupted, page by page. They are listed in the slot of the balance they take from.
   *
   * @throws InvalidArgumentError before any I/O
   * @throws RedisUnavailableError when a list could not be read in time
   */
  @Observed('transfers.pending', READ)
  async pending(options: PendingTransfersOptions = {}): Promise<PendingTransfers> {
    checkPendingOptions('options', options);
    return await this.acrossSlotsTransfers.pending(options);
  }

  /**
   * Brings interrupted transfers across slots to their end: paid in, or given back where the target refuses. Any process may do so, at any time, several at once and while those
   * transfers are still worked at. Have it done every minute or so, by one process or by all.
   *
   * @throws InvalidArgumentError before any I/O
   * @throws IllegalTransactionStateError inside a transaction, unless `propagation` is `'outside'`
   * @throws RedisUnavailableError when a list could not be read in time; what was settled until then is settled
   */
  @Observed('transfers.recover', { changed: ({ credited, refunded }: Recovery) => credited + refunded > 0 })
  async recover(options: RecoverOptions = {}): Promise<Recovery> {
    checkRecoverOptions('options', options);
    return await this.acrossSlotsTransfers.recover(options);
  }
}
