import { UnsafeIntegerError, NotAnIntegerError, type AtomicRedisError } from '../../atomic-redis.errors.js';
import type { Deadline } from '../../runtime/deadline.js';
import type { DurabilityOptions } from '../../connection/durability.js';
import { Answer } from '../transfer-answer.js';
import { BalanceOverflowError } from '../transfer.errors.js';
import type { PendingTransfer } from './pending-transfer.js';

/** What a step has to know of its transfer. */
export type Described = Pick<PendingTransfer, 'id' | 'from' | 'to' | 'amount'>;

/** What the steps of one transfer have in common. */
export interface StepOptions {
  readonly deadline: Deadline;
  readonly durability?: DurabilityOptions | undefined;
}

/** What the target decided: its balance with the amount, or why it refused. */
export type DecisionOfTarget = { readonly balance: string } | { readonly refusal: string };

/** Why a balance could not be paid into. */
export function refusalOf(reason: string, key: string, amount: number | bigint): AtomicRedisError {
  if (reason === Answer.WrongType) return new NotAnIntegerError(key, 'other-type');
  if (reason === Answer.NotAnInteger) return new NotAnIntegerError(key, 'other-string');
  if (reason === Answer.Overflow) return new BalanceOverflowError(key, amount, 0);
  return new UnsafeIntegerError(key, 'a bigint amount');
}
