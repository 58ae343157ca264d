import { Injectable } from '@nestjs/common';
import { Observer, READ } from '../observability/observer.js';
import { OperationRunner } from '../operations/operation-runner.js';
import {
  checkedAcrossSlots,
  checkAcrossSlotsOptions,
  checkPendingOptions,
  checkRecoverOptions,
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

const SETTLED = { changed: ({ credited, refunded }: Recovery): boolean => credited + refunded > 0 };

/**
 * Moves integer amounts between balances. Amounts and balances are exact over the whole range of a
 * signed 64-bit integer. A balance is an ordinary Redis string, and keeps its time to live. One
 * that does not exist counts as 0. On a Cluster, all keys of a call share a hash slot, except in
 * {@link acrossSlots}.
 */
@Injectable()
export class TransferService {
  /** @internal */
  constructor(
    private readonly operations: OperationRunner,
    private readonly observer: Observer,
    private readonly acrossSlotsTransfers: AcrossSlotsTransfers,
  ) {}

  /**
   * Takes the amount from one balance and adds it to the other, in one step. It does so once, even
   * if a reply is lost and the library sends the command again.
   *
   * ```ts
   * const { from, to } = await transfers.transfer({ from: 'account:{shop}:alice', to: 'account:{shop}:bob', amount: 30 });
   * ```
   *
   * @returns both balances after it
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws InsufficientFundsError when less than `min` would be left; nothing was moved
   * @throws BalanceOverflowError when the sum would not fit into 64 bits; nothing was moved
   * @throws UnsafeIntegerError when the amount is a number and a balance would not be exact as one;
   * nothing was moved
   * @throws NotAnIntegerError, WrongTypeError when a key holds something else; nothing was moved
   * @throws IllegalTransactionStateError inside a transaction, unless `propagation` is `'outside'`
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was moved
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not done by
   * then, it never will be
   * @throws NotReplicatedError when it was done, and `durability` was not reached in time; `result`
   * holds the balances
   */
  transfer(transfer: Transfer<number>, options?: TransferOptions): Promise<Balances<number>>;
  transfer(transfer: Transfer<bigint>, options?: TransferOptions): Promise<Balances<bigint>>;
  transfer(transfer: Transfer, options?: TransferOptions): Promise<Balances>;
  transfer(transfer: Transfer, options: TransferOptions = {}): Promise<Balances> {
    return this.operations.run(operation.transfer, transfer, options);
  }

  /**
   * Makes several transfers in one step, all or none. Each is judged after the one before it, as if
   * it were made alone: a leg may spend the amount that an earlier leg brought, not that of a later
   * one.
   *
   * @param legs 1 to 10,000; a balance may be part of several
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
   * Moves an amount between balances in any two slots of a Cluster. It does so in several steps,
   * and any process can repeat each of them. The first step takes the amount and notes the
   * transfer. Then the target decides once whether the amount is paid in. The amount is given back
   * only if the target refused it. {@link recover} finishes a transfer that was interrupted.
   *
   * ```ts
   * await transfers.acrossSlots({ from: `account:{${alice}}`, to: `account:{${bob}}`, amount: 30, reference: payment.id });
   * ```
   *
   * @returns each balance right after its own change
   * @throws InvalidArgumentError before any I/O
   * @throws InsufficientFundsError when less than `min` would be left; nothing was moved
   * @throws BalanceOverflowError when the sum would not fit into 64 bits; the amount was given back
   * @throws UnsafeIntegerError when the amount is a number and a balance would not be exact as one;
   * the amount was not taken, or given back
   * @throws NotAnIntegerError when a key holds something else; the amount was not taken, or given
   * back
   * @throws IllegalTransactionStateError inside a transaction, unless `propagation` is `'outside'`
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was moved
   * @throws TransferPendingError when it was begun, or may have been, and {@link recover} must
   * finish it
   * @throws NotReplicatedError when it was done, and the target's replicas did not have it in time;
   * `result` holds the balances
   */
  acrossSlots(
    transfer: AcrossSlotsTransfer<number>,
    options?: AcrossSlotsOptions,
  ): Promise<Balances<number> & { readonly id: string }>;
  acrossSlots(
    transfer: AcrossSlotsTransfer<bigint>,
    options?: AcrossSlotsOptions,
  ): Promise<Balances<bigint> & { readonly id: string }>;
  acrossSlots(
    transfer: AcrossSlotsTransfer,
    options?: AcrossSlotsOptions,
  ): Promise<Balances & { readonly id: string }>;
  acrossSlots(
    transfer: AcrossSlotsTransfer,
    options: AcrossSlotsOptions = {},
  ): Promise<Balances & { readonly id: string }> {
    return this.observer.operation('transfers.acrossSlots', async () => {
      const checked = checkedAcrossSlots('transfer', transfer);
      checkAcrossSlotsOptions('options', options);
      return await this.acrossSlotsTransfers.transfer(checked, options);
    });
  }

  /**
   * Lists transfers across slots that are under way or were interrupted, page by page. Each is
   * listed in the slot of the balance it takes from.
   *
   * @throws InvalidArgumentError before any I/O
   * @throws RedisUnavailableError when a list could not be read in time
   */
  pending(options: PendingTransfersOptions = {}): Promise<PendingTransfers> {
    return this.observer.operation(
      'transfers.pending',
      async () => {
        checkPendingOptions('options', options);
        return await this.acrossSlotsTransfers.pending(options);
      },
      READ,
    );
  }

  /**
   * Finishes interrupted transfers across slots: each is paid in, or given back if the target
   * refuses it. Any process may call it at any time, also several at once, and while other
   * processes work on the same transfers. Call it about once a minute, from one process or from
   * all.
   *
   * @throws InvalidArgumentError before any I/O
   * @throws IllegalTransactionStateError inside a transaction, unless `propagation` is `'outside'`
   * @throws RedisUnavailableError when a list could not be read in time; transfers that were
   * settled before stay settled
   */
  recover(options: RecoverOptions = {}): Promise<Recovery> {
    return this.observer.operation(
      'transfers.recover',
      async () => {
        checkRecoverOptions('options', options);
        return await this.acrossSlotsTransfers.recover(options);
      },
      SETTLED,
    );
  }
}
