import { OutcomeUnknownError, RedisUnavailableError, type AtomicRedisError } from '../atomic-redis.errors.js';
import { CounterLimitError } from '../counters/counter.errors.js';
import {
  IdempotencyCallerMismatchError,
  IdempotencyInFlightError,
  IdempotencyKeyInvalidError,
  IdempotencyKeyMissingError,
  IdempotencyMismatchError,
  IdempotencyResultUnavailableError,
} from '../idempotency/idempotency.errors.js';
import { LimitExceededError } from '../limits/limit.errors.js';
import { PermitUnavailableError } from '../permits/permit.errors.js';
import { problemDetails, problemOf, type Problem } from '../problem-details/problem.js';
import { TransactionConflictError, TransactionTimeoutError } from '../transactions/transaction.errors.js';
import { InsufficientFundsError } from '../transfers/transfer.errors.js';

/** An error of each code that a document may name. Its problem is the example, as in a response. */
const EXAMPLES = {
  IDEMPOTENCY_KEY_MISSING: new IdempotencyKeyMissingError('The request needs an Idempotency-Key header'),
  IDEMPOTENCY_KEY_INVALID: new IdempotencyKeyInvalidError(
    '1 to 255 printable ASCII characters without spaces or commas',
    'my key',
  ),
  IDEMPOTENCY_IN_FLIGHT: new IdempotencyInFlightError(30_000),
  IDEMPOTENCY_RESULT_UNAVAILABLE: new IdempotencyResultUnavailableError('too-large'),
  IDEMPOTENCY_OUTCOME_UNKNOWN: new IdempotencyResultUnavailableError('outcome-unknown'),
  IDEMPOTENCY_MISMATCH: new IdempotencyMismatchError(),
  IDEMPOTENCY_CALLER_MISMATCH: new IdempotencyCallerMismatchError(),
  TRANSACTION_CONFLICT: new TransactionConflictError(['key'], 50, 1_000),
  TRANSACTION_TIMEOUT: new TransactionTimeoutError(['key'], 10_000),
  PERMIT_UNAVAILABLE: new PermitUnavailableError('permit', 1_000),
  COUNTER_LIMIT: new CounterLimitError('key', 0, -1, 0),
  LIMIT_EXCEEDED: new LimitExceededError(1_000, []),
  INSUFFICIENT_FUNDS: new InsufficientFundsError('key', 0, 0, 1, 0),
  REDIS_UNAVAILABLE: new RedisUnavailableError('Redis could not be reached in time'),
  OUTCOME_UNKNOWN: new OutcomeUnknownError('An operation was not answered in time'),
} satisfies Record<string, AtomicRedisError>;

/** The `code` of a problem that a route may send. @inline */
export type ProblemCode = keyof typeof EXAMPLES;

export const isProblemCode = (code: unknown): code is ProblemCode =>
  typeof code === 'string' && Object.hasOwn(EXAMPLES, code);

export const problemCodes = Object.keys(EXAMPLES);

const EXAMPLE_INSTANCE = 'urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e';

/** Returns the content of a response with this code, and whether it has a Retry-After header. */
export function exampleOf(code: ProblemCode): { problem: Problem; hasRetryAfter: boolean } {
  const { retryAfterMs } = problemOf(EXAMPLES[code]);
  const problem = { ...problemDetails(EXAMPLES[code]), instance: EXAMPLE_INSTANCE };
  return { problem, hasRetryAfter: retryAfterMs !== undefined };
}
