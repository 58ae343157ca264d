import { Injectable, type Type } from '@nestjs/common';
import { describe, InvalidArgumentError, RedisUnavailableError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { CounterLimitError } from '../counters/counter.errors.js';
import type { CounterResult } from '../counters/counter-result.js';
import { LimitExceededError } from '../limits/limit.errors.js';
import { IdempotencyInFlightError } from '../idempotency/idempotency.errors.js';
import { appliedTo } from '../method-wrapping/decorator-order.js';
import type { StandInFacts } from '../method-wrapping/stand-in.js';
import type { AtomicDecorator, MethodCall, MethodSite } from '../method-wrapping/method-site.js';
import { PermitUnavailableError } from '../permits/permit.errors.js';
import { TransactionConflictError } from '../transactions/transaction.errors.js';
import { StubRun } from './stub-run.js';
import { StubTransaction, type PushedJob, type QueuedCommand } from './stub-transaction.js';

/** Chooses the outcome of the calls of one decorated method, until the next choice or `reset()`. */
export interface MethodOutcome {
  /** The method runs as it is, as it does before anything is chosen. */
  runs(): void;
  /**
   * Under `@Idempotent`: the method does not run, and calls resolve with `result`, as a repeated
   * call does.
   */
  replays(result: unknown): void;
  /**
   * Under `@Idempotent`: calls reject with an `IdempotencyInFlightError`, as beside a first call
   * that still runs.
   */
  inFlight(): void;
  /**
   * Under `@WithPermit`: calls reject with a `PermitUnavailableError`, as while another process
   * holds the permit.
   */
  permitTaken(): void;
  /** Under `@RateLimit`: calls reject with a `LimitExceededError`, as when a limit refuses them. */
  limitExceeded(): void;
  /** Under `@AtomicCounter`: calls reject with a `CounterLimitError`. */
  limitReached(): void;
  /** Under `@AtomicCounter`: the method runs, and its `@CounterValue()` is `count`. */
  counts(count: CounterResult): void;
  /**
   * Under `@OptimisticRetry`: the method runs again `times` times, and the writes of its last run
   * count. At its `maxAttempts` (50) calls reject with a `TransactionConflictError`.
   */
  conflicts(times: number): void;
  /** Calls reject with a `RedisUnavailableError`; the method does not run. */
  unavailable(): void;
}

type Chosen =
  | { readonly kind: 'runs' | 'inFlight' | 'limitExceeded' | 'permitTaken' | 'limitReached' | 'unavailable' }
  | { readonly kind: 'replays'; readonly result: unknown }
  | { readonly kind: 'counts'; readonly count: CounterResult }
  | { readonly kind: 'conflicts'; readonly times: number };

const DECORATOR_OF: Partial<Record<Chosen['kind'], AtomicDecorator>> = {
  replays: 'Idempotent',
  inFlight: 'Idempotent',
  permitTaken: 'WithPermit',
  limitExceeded: 'RateLimit',
  limitReached: 'AtomicCounter',
  counts: 'AtomicCounter',
  conflicts: 'OptimisticRetry',
};

/** As `TransactionService` has by default. */
const MAX_ATTEMPTS = 50;
const RETRY_AFTER_MS = 1_000;

interface Choice {
  readonly type: Type<object>;
  readonly methodName: string;
  readonly chosen: Chosen;
}

/**
 * Chooses the outcomes of decorated methods in a test with `AtomicRedisTestingModule`. Injectable
 * by its class.
 *
 * ```ts
 * const outcomes = module.get(AtomicRedisOutcomes);
 * outcomes.on(OrdersController, 'create').inFlight();
 * outcomes.onRead('get', 'account:{42}:balance').returns('10');
 * expect(outcomes.writes).toEqual([['set', 'account:{42}:balance', 5]]);
 * ```
 */
@Injectable()
export class AtomicRedisOutcomes {
  private choices: Choice[] = [];

  /** @internal */
  constructor(
    private readonly transaction: StubTransaction,
    private readonly run: StubRun,
  ) {}

  /**
   * Chooses for a method of the class and of those that inherit from it.
   *
   * @throws InvalidArgumentError when the method has no decorator of this library, and for an
   * outcome that its decorators cannot have
   */
  on<T extends object>(type: Type<T>, methodName: keyof T & string): MethodOutcome {
    const method: unknown = (type.prototype as Record<string, unknown> | undefined)?.[methodName];
    const decorators =
      typeof method === 'function' ? appliedTo(method).map(({ decorator }) => decorator) : [];
    if (decorators.length === 0)
      throw new InvalidArgumentError('methodName', `a decorated method of ${type.name}`, methodName);
    const choose = (chosen: Chosen): void => {
      const needed = DECORATOR_OF[chosen.kind];
      if (needed && !decorators.includes(needed))
        throw new InvalidArgumentError(
          `on(${type.name}, ${describe(methodName)})`,
          `a method under @${needed}() to have the outcome ${chosen.kind}()`,
          decorators.map((decorator) => `@${decorator}()`).join(' '),
        );
      this.choices.unshift({ type, methodName, chosen });
    };
    return {
      runs: () => choose({ kind: 'runs' }),
      replays: (result) => choose({ kind: 'replays', result }),
      inFlight: () => choose({ kind: 'inFlight' }),
      permitTaken: () => choose({ kind: 'permitTaken' }),
      limitExceeded: () => choose({ kind: 'limitExceeded' }),
      limitReached: () => choose({ kind: 'limitReached' }),
      counts: (count) => choose({ kind: 'counts', count }),
      conflicts: (times) => {
        check.integer(0)('times', times);
        choose({ kind: 'conflicts', times });
      },
      unavailable: () => choose({ kind: 'unavailable' }),
    };
  }

  /**
   * Gives the answer to a read of the injected `Transaction`, by its command and arguments, for this
   * and every later attempt.
   */
  onRead(
    command: string,
    ...args: unknown[]
  ): {
    /** Gives the answer. */
    returns(answer: unknown): void;
  } {
    check.nonEmptyString('command', command);
    return { returns: (answer) => this.transaction.giveRead(command, args, answer) };
  }

  /**
   * Commands that transactions have written, in order: `[['set', 'account:{42}:balance', 5]]`.
   * Failed transactions have written nothing.
   */
  get writes(): readonly QueuedCommand[] {
    return this.transaction.applied;
  }

  /**
   * Jobs that transactions have pushed by `tx.push`, in order: `[{ queue: 'emails', payload: { to:
   * 'ada@example.org' } }]`. Those that failed have pushed none.
   */
  get pushed(): readonly PushedJob[] {
    return this.transaction.pushed;
  }

  /**
   * Ids of the jobs that transactions have completed by `completesJob`, in order. Those that failed
   * have completed none.
   */
  get completedJobs(): readonly string[] {
    return this.transaction.completed;
  }

  /** Forgets every outcome and answer, and what was written and pushed. */
  reset(): void {
    this.choices = [];
    this.transaction.reset();
    this.run.reset();
  }

  /**
   * Makes an earlier attempt of each run have begun the step; `run.resumed` is true then.
   */
  onStep(name: string): {
    /** The step was finished with that result: its work does not run. */
    returns(result: unknown): void;
    /** Nothing is known of it: the step rejects with a `StepInterruptedError`. */
    interrupted(): void;
  } {
    check.nonEmptyString('name', name);
    return {
      returns: (result) => this.run.giveStep(name, { result }),
      interrupted: () => this.run.giveStep(name, 'interrupted'),
    };
  }

  /** The names of the steps whose work has run, in order. */
  get steps(): readonly string[] {
    return this.run.ran;
  }

  /** @internal */
  async call(site: MethodSite, call: MethodCall, facts: StandInFacts): Promise<unknown> {
    const chosen = this.choices.find(
      ({ type, methodName }) => methodName === site.methodName && call.instance instanceof type,
    )?.chosen ?? { kind: 'runs' };
    if (chosen.kind === 'unavailable')
      throw new RedisUnavailableError('Redis is unavailable in this test: unavailable() was chosen');
    switch (site.decorator) {
      case 'RateLimit':
        if (chosen.kind === 'limitExceeded') throw new LimitExceededError(RETRY_AFTER_MS, []);
        return await call.proceed();
      case 'Idempotent':
        if (chosen.kind === 'inFlight') throw new IdempotencyInFlightError(RETRY_AFTER_MS);
        return chosen.kind === 'replays' ? chosen.result : await call.proceed();
      case 'WithPermit':
        if (chosen.kind === 'permitTaken') throw new PermitUnavailableError('a permit', RETRY_AFTER_MS);
        return await call.proceed();
      case 'AtomicCounter':
        return await this.counted(call, facts, chosen);
      case 'OptimisticRetry': {
        const times = chosen.kind === 'conflicts' ? chosen.times : 0;
        if (times >= (facts.maxAttempts ?? MAX_ATTEMPTS)) throw new TransactionConflictError([], times, 0);
        return await this.transaction.run(() => call.proceed(), times, facts.jobOf?.(call.args));
      }
      default:
        return await call.proceed();
    }
  }

  private async counted(call: MethodCall, facts: StandInFacts, chosen: Chosen): Promise<unknown> {
    const amount = facts.amountOf?.(call.args) ?? 1;
    if (chosen.kind === 'limitReached') throw new CounterLimitError('a counter', 0, amount, 0);
    facts.giveCount?.(
      call.args,
      // As of a counter that did not exist.
      chosen.kind === 'counts' ? chosen.count : { value: amount, applied: amount, limited: false },
    );
    return await call.proceed();
  }
}
