import { Injectable } from '@nestjs/common';
import {
  InexactResultError,
  InvalidArgumentError,
  NotAnIntegerError,
  WrongTypeError,
} from '../atomic-redis.errors.js';
import { OperationRunner } from '../redis/operation-runner.js';
import { RedisConnection } from '../redis/redis-connection.js';
import { withResult } from '../redis/script.js';
import { BalanceOverflowError, InsufficientFundsError } from './transfer.errors.js';
import {
  checkedTransfer,
  checkTransferOptions,
  MAX_LEGS,
  type Balances,
  type Transfer,
  type TransferOptions,
} from './transfer.options.js';
import { Answer, transferScript } from './transfer.script.js';

/**
 * Moves integer amounts between balances, exact over the whole range of a signed 64-bit integer. A balance is an ordinary Redis string, and
 * keeps its time to live; one that does not exist counts as 0. On a Cluster, all keys of a call share a hash slot.
 */
@Injectable()
export class TransferService {
  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
  ) {
    connection.preload([transferScript]);
  }

  /**
   * Takes the amount from one balance and adds it to the other, in one step, once, even when a reply is lost and the command is sent again.
   *
   * ```ts
   * const { from, to } = await transfers.transfer({ from: 'account:{shop}:alice', to: 'account:{shop}:bob', amount: 30 });
   * ```
   *
   * @returns both balances after it
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws InsufficientFundsError when less than `minimum` would be left; nothing was moved
   * @throws BalanceOverflowError when the sum would not fit into 64 bits; nothing was moved
   * @throws InexactResultError when the amount is a number and a balance would not be exact as one; nothing was moved
   * @throws NotAnIntegerError, WrongTypeError when a key holds something else; nothing was moved
   * @throws TransactionMisuseError inside a transaction, unless `propagation` is `'outside'`
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was moved
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not done by then, it never will be
   * @throws NotReplicatedError when it was done, and `durability` was not reached in time; `result` holds the balances
   */
  transfer(transfer: Transfer<number>, options?: TransferOptions): Promise<Balances<number>>;
  transfer(transfer: Transfer<bigint>, options?: TransferOptions): Promise<Balances<bigint>>;
  transfer(transfer: Transfer, options?: TransferOptions): Promise<Balances>;
  async transfer(transfer: Transfer, options: TransferOptions = {}): Promise<Balances> {
    return await this.move([checkedTransfer('transfer', transfer)], options, ([balances]) => balances!);
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
  async transferAll(legs: readonly Transfer[], options: TransferOptions = {}): Promise<Balances[]> {
    if (!Array.isArray(legs) || legs.length === 0 || legs.length > MAX_LEGS)
      throw new InvalidArgumentError('legs', `an array of 1 to ${MAX_LEGS} transfers`, legs);
    // Not by map, which passes over the holes of an array.
    const checked = Array.from(legs as readonly Transfer[], (leg, i) => checkedTransfer(`legs[${i}]`, leg));
    return await this.move(checked, options, (balances) => balances);
  }

  private async move<T>(
    legs: readonly Required<Transfer>[],
    options: TransferOptions,
    result: (balances: Balances[]) => T,
  ): Promise<T> {
    checkTransferOptions(options, legs);
    const { audit, ...callOptions } = options;
    const balances = [...new Set(legs.flatMap(({ from, to }) => [from, to]))];
    const positions = new Map(balances.map((key, i) => [key, i + 1]));
    const keys = audit ? [...balances, audit.log] : balances;
    return await this.operations.run(
      'Moving an amount between balances',
      withResult(transferScript, (answer) => result(read(answer, legs, keys))),
      keys[0]!,
      { keys },
      {
        balanceCount: balances.length,
        keyPrefixBytes: Buffer.byteLength(this.connection.keys.keyPrefix),
        maxEntries: audit?.maxEntries ?? '',
        reference: audit?.reference ?? '',
        legs: legs.flatMap(({ from, to, amount, minimum }) => [
          positions.get(from)!,
          positions.get(to)!,
          amount,
          minimum,
          typeof amount === 'number' ? 'n' : '',
        ]),
      },
      callOptions,
    );
  }
}

/** @throws what a refusal stands for */
function read(answer: string, legs: readonly Required<Transfer>[], keys: readonly string[]): Balances[] {
  const [kind, ...rest] = answer.split(',');
  if (kind === Answer.Moved) {
    return rest.map((balances, i) => {
      const [from = '', to = ''] = balances.split(':');
      const convert = typeof legs[i]!.amount === 'bigint' ? BigInt : Number;
      return { from: convert(from), to: convert(to) };
    });
  }
  const [index = '', detail = ''] = rest;
  if (kind === Answer.NotAnInteger) throw new NotAnIntegerError(keys[Number(index) - 1]!, 'other-string');
  if (kind === Answer.WrongType) {
    const key = keys[Number(index) - 1]!;
    const isLog = !legs.some(({ from, to }) => from === key || to === key);
    throw isLog ? new WrongTypeError(key, 'stream') : new NotAnIntegerError(key, 'other-type');
  }
  const leg = Number(index);
  const { from, to, amount, minimum } = legs[leg]!;
  if (kind === Answer.InsufficientFunds) {
    const isExact = typeof amount === 'number' && Number.isSafeInteger(Number(detail));
    const balance = isExact ? Number(detail) : BigInt(detail);
    throw new InsufficientFundsError(from, balance, minimum, amount, leg);
  }
  if (kind === Answer.Overflow) throw new BalanceOverflowError(to, amount, leg);
  throw new InexactResultError(detail === 'from' ? from : to, 'a bigint amount');
}
