import type { RedisConnection } from '../connection/redis-connection.js';
import { Unprotected } from '../scripting/commit-participant.js';
import { IllegalRunStateError } from './idempotency.errors.js';
import type { ClaimRequest } from './claim-request.js';
import { IdempotentRun, type ClaimedRun } from './idempotent-run.js';
import { ObservedMethod } from './observed-method.js';
import { thirdPartyKey } from './third-party-key.js';

/** The scope of a run without a record: transactions find nothing to commit. */
export class UnprotectedScope extends Unprotected {
  isAwaited = false;

  constructor(
    readonly connection: RedisConnection,
    readonly run: IdempotentRun,
  ) {
    super();
  }
}

/** A run without a record: nothing is known of other calls, and nothing is kept of this one. */
export class UnprotectedRun extends IdempotentRun implements ClaimedRun {
  readonly signal: AbortSignal = new AbortController().signal;
  readonly attempt = 1;
  readonly resumed = false;
  private readonly method: ObservedMethod;

  constructor(
    private readonly request: ClaimRequest,
    connection: RedisConnection,
  ) {
    super();
    this.method = new ObservedMethod(request.observed, new UnprotectedScope(connection, this));
  }

  keyFor(name: string): string {
    return thirdPartyKey(this.request.record, '', name);
  }

  step<T>(name: string): Promise<T> {
    return Promise.reject(
      new IllegalRunStateError(
        `The step ${JSON.stringify(name)} was not begun: this run has no record that could keep it, since Redis could not be reached (onUnavailable: 'run')`,
      ),
    );
  }

  within<T>(method: () => Promise<T> | T): Promise<T> {
    return this.method.within(method);
  }

  complete(): Promise<void> {
    return this.end();
  }

  release(): Promise<void> {
    return this.end();
  }

  abandon(): Promise<void> {
    return this.end();
  }

  private end(): Promise<void> {
    const { observed, operation, record } = this.request;
    observed.end(() => ({ type: 'idempotency.ran-unprotected', operation, record, ...this.method.failure }));
    return Promise.resolve();
  }
}
