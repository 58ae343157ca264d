import { UnsafeIntegerError, NotAnIntegerError, type AtomicRedisError } from '../../atomic-redis.errors.js';
import type { Deadline } from '../../runtime/deadline.js';
import type { DurabilityOptions } from '../../connection/durability.js';
import { Answer } from '../transfer-answer.js';
import { BalanceOverflowError } from '../transfer.errors.js';
import type { PendingTransfer } from './pending-transfer.js';

/** The facts of its transfer that a step needs. */
export type Described = Pick<PendingTransfer, 'id' | 'from' | 'to' | 'amount'>;

/** The settings that the steps of one transfer share. */
export interface StepOptions {
  readonly deadline: Deadline;
  readonly durability?: DurabilityOptions | undefined;
}

/** The target's decision: its balance with the amount, or the reason for its refusal. */
export type DecisionOfTarget = { readonly balance: string } | { readonly refusal: string };

/** Returns the error for the target's refusal. */
export function refusalOf(reason: string, key: string, amount: number | bigint): AtomicRedisError {
  if (reason === Answer.WrongType) return new NotAnIntegerError(key, 'other-type');
  if (reason === Answer.NotAnInteger) return new NotAnIntegerError(key, 'other-string');
  if (reason === Answer.Overflow) return new BalanceOverflowError(key, amount, 0);
  return new UnsafeIntegerError(key, 'a bigint amount');
}
