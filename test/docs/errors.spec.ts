import { existsSync } from 'node:fs';
import * as library from 'nestjs-atomic-redis';
import { AtomicRedisError } from 'nestjs-atomic-redis';
import { problemDetails, problemOf } from '../../lib/problem-details/problem.js';
import { sectionOf } from './examples.js';

const bytes = Buffer.from([0xff]);

/**
 * One of each kind: where the outcome, the code or the status depends on how it came about, one for
 * each.
 */
const KINDS: readonly AtomicRedisError[] = [
  new library.RedisUnavailableError(''),
  new library.OutcomeUnknownError(''),
  new library.NotReplicatedError('It', 1, 0, null),
  new library.ModuleClosedError(''),
  new library.RedisReplyError('OOM', '', { retryable: true }),
  new library.RedisReplyError('NOPERM', ''),
  new library.RedisReplyError('ERR', '', { outcome: 'unknown' }),
  new library.InvalidArgumentError('key', 'a string', 1),
  new library.ConfigurationError(''),
  new library.CrossSlotError(['a', 'b'], [1, 2]),
  new library.WrongTypeError('key', 'string'),
  new library.InvalidUtf8Error('key', bytes, 'not-applied'),
  new library.InvalidUtf8Error('key', bytes, 'applied'),
  new library.NotAnIntegerError('key', 'other-type'),
  new library.UnsafeIntegerError('key', 'getBigInt'),
  new library.TransactionConflictError(['key'], 1, 1),
  new library.TransactionTimeoutError(['key'], 1),
  new library.PartialCommitError(0, 'SET', [new Error('refused')]),
  new library.RepliesLostError(['key']),
  new library.IllegalTransactionStateError(''),
  new library.IdempotencyKeyMissingError(''),
  new library.IdempotencyKeyInvalidError('a string', 1),
  new library.IdempotencyInFlightError(1),
  new library.IdempotencyMismatchError(),
  new library.IdempotencyCallerMismatchError(),
  new library.IdempotencyCallerUnknownError(),
  new library.IdempotencyResultUnavailableError('too-large'),
  new library.IdempotencyResultUnavailableError('outcome-unknown'),
  new library.IdempotencyRecordError(),
  new library.LeaseLostError(),
  new library.LeaseLostError('not-applied'),
  new library.RunTimeoutError(1),
  new library.IllegalRunStateError(''),
  new library.StepInterruptedError('step', 'begun'),
  new library.ProbeFailedError('step', {}),
  new library.CounterLimitError('key', 1, 1, 1),
  new library.PermitUnavailableError('name', 1),
  new library.CounterOverflowError('key', 1),
  new library.LimitCostError('key', 2, 1),
  new library.LimitExceededError(1, []),
  new library.InsufficientFundsError('key', 1, 1, 1, 0),
  new library.BalanceOverflowError('key', 1, 0),
  new library.TransferPendingError({ from: 'a', to: 'b', amount: 1 }),
  new library.NotAnAuditLogError('log'),
  new library.InvalidPayloadError('queue', [{ message: 'is missing', path: ['to'] }]),
  new library.ShadowLostError(['key'], 'it expired'),
  new library.ShadowEmptyError('key'),
  new library.ShadowBuildEndedError('key'),
  new library.UndeclaredKeyError('script', 'key', 'GET'),
];

const httpOf = (error: AtomicRedisError): string => {
  const { problem, retryAfterMs } = problemOf(error);
  return `${problem.status}${retryAfterMs === undefined ? '' : ', Retry-After'}`;
};

/** Cells of the rows of a page's tables whose first cell begins with the name of an error. */
function rowsOf(page: string, heading: string): string[][] {
  return sectionOf(page, heading)
    .split('\n')
    .filter((line) => /^\| `\w+Error`/.test(line))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

const plain = (cell: string): string => cell.replaceAll(/`|<[^>]*>/g, '');

describe('the error classes', () => {
  it('[DOC-3] are all in docs/errors.md, with their real fields', () => {
    const documented = rowsOf('docs/errors.md', 'All of them').map(([name, code, outcome, repeat, http]) => ({
      name: /\w+/.exec(name!)![0],
      code: plain(code!),
      outcome,
      retryable: repeat === 'yes',
      http: plain(http!),
    }));
    const actual = KINDS.map((error) => {
      const { name, code, outcome, retryable } = error;
      return { name, code, outcome, retryable, http: httpOf(error) };
    });
    expect(documented).toEqual(actual);
    const exported = Object.values(library as Record<string, unknown>).filter(
      (value) => typeof value === 'function' && value.prototype instanceof AtomicRedisError,
    ) as (typeof AtomicRedisError)[];
    expect([...new Set(documented.map(({ name }) => name))].toSorted()).toEqual(
      exported.map(({ name }) => name).toSorted(),
    );
  });

  it('[ERR-4] each have a problem type whose anchor is on the packaged page', () => {
    const page = sectionOf('docs/errors.md', 'All of them');
    const anchors = [...page.matchAll(/<a id="(\w+)">/g)].map(([, id]) => id!);
    expect(anchors).toEqual([...new Set(KINDS.map(({ code }) => code))]);
    for (const error of KINDS) {
      const { pathname, hash } = new URL(problemDetails(error).type);
      expect(anchors).toContain(hash.slice(1));
      expect(existsSync(pathname.replace('/nestjs-atomic-redis/', ''))).toBe(true);
    }
  });

  it('have done nothing if they are retryable', () => {
    const wrong = KINDS.filter(({ retryable, outcome }) => retryable && outcome !== 'not-applied');
    expect(wrong).toEqual([]);
  });

  it('[DOC-3] have the same description in the tour and in docs/errors.md', () => {
    const rows = rowsOf('docs/tour.md', 'Errors');
    expect(rows.length).toBeGreaterThan(0);
    const told = rows.flatMap(([names, outcome, http]) =>
      [...names!.matchAll(/`(\w+)`/g)].map(([, name]) => `${name}: ${outcome}, ${plain(http!)}`),
    );
    const actual = KINDS.map((error) => `${error.name}: ${error.outcome}, ${httpOf(error)}`);
    expect(told.filter((one) => !actual.includes(one))).toEqual([]);
  });
});
