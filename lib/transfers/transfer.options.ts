import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { enforceableOptionChecks, type EnforceableOptions } from '../operations/operation.options.js';

/** Largest number of legs in one `transferAll`: Redis does nothing else while it moves them. */
export const MAX_LEGS = 10_000;

/** One movement from one balance to another. */
export interface Transfer<N extends number | bigint = number | bigint> {
  /** Key of the balance to take from; one that does not exist counts as 0. */
  from: string;
  /** Key of the balance to add to; likewise. */
  to: string;
  /** An integer above 0. */
  amount: N;
  /** Smallest balance that may be left in `from`; below 0 to allow an overdraft. @default 0 */
  min?: number | bigint;
}

/**
 * Both balances after a leg. Numbers where its amount was a number, bigints where it was a bigint.
 */
export interface Balances<N extends number | bigint = number | bigint> {
  readonly from: N;
  readonly to: N;
}

/**
 * One entry for each leg, appended to a stream in the same step: `from`, `to`, `amount`,
 * `fromBalance`, `toBalance`, `atMs`, `reference`. @inline
 */
export interface TransferAudit {
  /** Key of the stream, in the slot of the balances. */
  log: string;
  /** Number of entries that are kept; older ones are deleted. Default: all. */
  maxEntries?: number;
  /**
   * The caller's own name for the transfer, such as the id of a payment. Default: the entries have
   * no such field.
   */
  reference?: string;
}

export interface TransferOptions extends EnforceableOptions {
  /** Default: nothing is logged. */
  audit?: TransferAudit;
}

export const positive: check.Check = (path, value) => {
  check.int64(path, value);
  if ((value as number | bigint) <= 0) throw new InvalidArgumentError(path, 'an integer above 0', value);
};

const checkLeg = check.options(
  { from: check.key, to: check.key, amount: positive, min: check.int64 } satisfies Record<
    keyof Transfer,
    check.Check
  >,
  'from',
  'to',
  'amount',
);

const checkAudit = check.options(
  { log: check.key, maxEntries: check.integer(1), reference: check.text } satisfies Record<
    keyof TransferAudit,
    check.Check
  >,
  'log',
);

const checkTransferProperties = check.options({
  ...enforceableOptionChecks,
  audit: checkAudit,
} satisfies Record<keyof TransferOptions, check.Check>);

/**
 * Copies the leg, so that it stays as it was checked while the call is under way.
 * @throws InvalidArgumentError
 */
export function checkedTransfer(path: string, leg: Transfer): Required<Transfer> {
  checkLeg(path, leg);
  const { from, to, amount, min = 0 } = leg;
  assertTwoBalances(path, from, to);
  return { from, to, amount, min };
}

/** @throws InvalidArgumentError */
export function assertTwoBalances(path: string, from: string, to: string): void {
  if (from === to) throw new InvalidArgumentError(`${path}.to`, `another key than ${path}.from`, to);
}

/** @throws InvalidArgumentError */
export function checkTransferOptions(options: TransferOptions, legs: readonly Transfer[]): void {
  checkTransferProperties('options', options);
  if (!options.audit) return;
  const { log } = options.audit;
  if (legs.some(({ from, to }) => from === log || to === log))
    throw new InvalidArgumentError('options.audit.log', 'another key than the balances', log);
}
