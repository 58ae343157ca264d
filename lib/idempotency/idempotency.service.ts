import { Inject, Injectable, type Type } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { OPTIONS } from '../atomic-redis.constants.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { Deadline } from '../runtime/deadline.js';
import { assertOutsideTransaction } from '../runtime/transaction-scope.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { OperationRunner } from '../operations/operation-runner.js';
import { ScriptRunner } from '../scripting/script-runner.js';
import { WorkInFlight } from '../runtime/work-in-flight.js';
import { errorName, Observer, READ, type ObservedCall } from '../observability/observer.js';
import { RecordingBudget } from './http/recording-budget.js';
import {
  checkCallOptions,
  type IdempotencyKeyOptions,
  type IdempotencyOptions,
} from './idempotency-call.options.js';
import type { ResolvedIdempotencyOptions } from './idempotency.options.js';
import { claimRequestOf } from './claim-request.js';
import { runClaimed } from './claimed-work.js';
import type { Claim, IdempotentRun } from './idempotent-run.js';
import { OperationRegistry } from './operation-registry.js';
import type {
  ForgetOptions,
  IdempotencyRecord,
  Settlement,
  SettleOptions,
} from './administration.options.js';
import { KeyAdministration } from './key-administration.js';
import type { KeyReference } from './key-reference.js';
import type { HeldKeys, HeldOptions } from './held.options.js';
import { HeldKeyList } from './held-keys.js';
import { RecordStore } from './record-store.js';
import { ResultSealer } from './result-sealer.js';
import { StepStore } from './steps/step-store.js';
import { RunClaimer } from './run-claimer.js';
import { handlingOf, type ResultHandling } from './result-handling.js';

const FORGOTTEN = { changed: (wasThere: boolean): boolean => wasThere };
const SETTLED = { changed: (hasWaited: boolean): boolean => hasWaited };

/**
 * Runs a piece of work once for each key, and gives its result to every later call with that key.
 * In the memory of Redis 7.0, by `MEMORY USAGE`:
 *
 * - some 220 bytes for a run under way, for the length of its lease unless renewed;
 * - some 440 bytes for a result of 200 bytes, for `ttlMs`.
 */
@Injectable()
export class IdempotencyService {
  /** @internal */
  readonly defaults: ResolvedIdempotencyOptions;
  /** Maps each operation of `@Idempotent` to its method. @internal */
  readonly operations = new OperationRegistry();
  /** Bounds what is recorded of responses. @internal */
  readonly recordingBudget: RecordingBudget;
  private readonly claimer: RunClaimer;
  private readonly administration: KeyAdministration;

  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    scripts: ScriptRunner,
    runner: OperationRunner,
    /** The work that shutdown waits for. @internal */
    readonly inFlight: WorkInFlight,
    private readonly observer: Observer,
    @Inject(OPTIONS) options: ResolvedOptions,
  ) {
    this.defaults = options.idempotency;
    this.recordingBudget = new RecordingBudget(this.defaults.maxRecordingBytes);
    const sealer = new ResultSealer(this.defaults.encryption);
    const store = new RecordStore(connection, scripts, runner, sealer);
    const steps = new StepStore(connection, scripts, sealer);
    this.claimer = new RunClaimer(store, steps, connection, inFlight, this.defaults);
    this.administration = new KeyAdministration({
      connection,
      store,
      held: new HeldKeyList(connection, runner),
      claimer: this.claimer,
      operations: this.operations,
      inFlight,
      defaults: this.defaults,
    });
  }

  /**
   * Runs `work`, unless a call with this key has run before: then returns that call's result.
   * Results are JSON values, or values that `codec` carries. The first call takes two round trips,
   * a repeated one takes one. While `work` runs, a renewed lease holds the key; `run.signal` aborts
   * if the lease is lost.
   *
   * The result of an Observable is its last value, for the first caller too; undefined if it ends
   * without one.
   *
   * @throws the error of `work`, the same instance; a repeated call throws it as `onError` says
   * @throws InvalidArgumentError before any command, for a wrong option, and for a `fingerprint` of
   * which JSON would drop a part
   * @throws IdempotencyInFlightError while the first call runs; with `onDuplicate: 'wait'`, once
   * `waitTimeoutMs` have passed
   * @throws IdempotencyCallerMismatchError when the key was used with other `evidence`
   * @throws IdempotencyMismatchError when the key was used with another `fingerprint`
   * @throws IdempotencyResultUnavailableError when the first call is over and its result could not
   * be kept
   * @throws IdempotencyRecordError when the record's key holds something else, or a newer version's
   * record
   * @throws RedisUnavailableError when the key could not be claimed in time; `work` did not run,
   * unless `onUnavailable` is `'run'`
   */
  run<T>(
    key: string,
    work: (run: IdempotentRun) => Promise<T> | Observable<T> | T,
    options: IdempotencyOptions = {},
  ): Promise<T> {
    return this.runAs(key, work, options, handlingOf(options?.result));
  }

  /** As `run`, with the result handled in a way of the caller's. @internal */
  async runAs<T>(
    key: string,
    work: (run: IdempotentRun) => Promise<T> | Observable<T> | T,
    options: IdempotencyOptions,
    handling: ResultHandling,
  ): Promise<T> {
    this.inFlight.enter();
    try {
      const claim = await this.claim(key, options, () => check.func('work', work));
      if (claim.kind === 'replay')
        return claim.read((result) => handling.read(result, options.codec ?? this.defaults.codec)) as T;
      return await runClaimed(claim.run, work, options, handling, this.defaults);
    } finally {
      this.inFlight.leave();
    }
  }

  /**
   * Returns the operation of a method with `@Idempotent`, for `inspect` and `forget`: of a route
   * without a name of its own, `POST /accounts/:id/deposits`. Known once the application has
   * started.
   *
   * ```ts
   * const operation = idempotency.operationOf(AccountsController, 'deposit');
   * await idempotency.forget(key, { operation, scope });
   * ```
   *
   * @throws InvalidArgumentError when this registration has no such method, and when a callback
   * names each instance
   */
  operationOf<T extends object>(type: Type<T>, methodName: keyof T & string): string {
    const operation = this.operations.nameOf(type.prototype as object, methodName);
    if (typeof operation === 'string') return operation;
    throw new InvalidArgumentError(
      'methodName',
      `a method of ${type.name} with @Idempotent(), whose operation is one for all instances`,
      methodName,
    );
  }

  /**
   * Returns what is known of a key, or null when there is nothing: no call was made with it, or its
   * time is over. The key is given by the `record` of an event or a problem, or by a request: `{
   * method, path, key, caller }`. As text, it goes with the `operation` of what `@Idempotent`
   * protects, by `operationOf()` on a route, and the caller's `scope`, which is
   * `callerScope(request)` unless the decorator has its own.
   *
   * @throws InvalidArgumentError, IdempotencyRecordError, RedisUnavailableError
   */
  inspect(
    key: string | KeyReference,
    options: IdempotencyKeyOptions = {},
  ): Promise<IdempotencyRecord | null> {
    return this.observer.operation(
      'idempotency.inspect',
      () => this.administration.inspect(key, options),
      READ,
    );
  }

  /**
   * Returns a page of the keys that wait: keys that are held because the outcome of their run is
   * unknown, and keys whose run with steps died or failed midway and was not continued. Each that
   * is shown is kept for `heldTtlMs` more. A page may be empty and have a `cursor`. On a Cluster it
   * visits at most 64 slots.
   *
   * @throws InvalidArgumentError, RedisUnavailableError
   */
  held(options: HeldOptions = {}): Promise<HeldKeys> {
    return this.observer.operation('idempotency.held', () => this.administration.held(options), READ);
  }

  /**
   * Gives a key that waits its result: calls with it get that from now on, and no call runs. Name
   * the key as for `inspect`. Use it once you have found out that the work was done.
   *
   * ```ts
   * await idempotency.settle({ record }, { result: { charge: 'ch_1' } });
   * await idempotency.settle({ record }, { response: { status: 201, body: { id: 7 } } }); // for the calls of a route
   * ```
   *
   * @returns true if the key waited and has that result now
   * @throws IdempotencyInFlightError while a run holds the key
   * @throws IllegalTransactionStateError inside an open transaction
   * @throws InvalidArgumentError, also for a result that the codec cannot carry;
   * IdempotencyRecordError, RedisUnavailableError
   */
  settle(key: string | KeyReference, settlement: Settlement, options: SettleOptions = {}): Promise<boolean> {
    const settle = async (): Promise<boolean> => {
      assertOutsideTransaction('Settling an idempotency key', undefined);
      return await this.administration.settle(key, settlement, options);
    };
    return this.observer.operation('idempotency.settle', settle, SETTLED);
  }

  /**
   * Deletes the record of a key whose run has ended, and its steps, so that the next call with the
   * key runs from the start. Name the key as for `inspect`. Use it for a key that is held because
   * the outcome of its run was unknown, once you have found out that nothing was done. Keys for
   * third parties (`run.keyFor`, `step.key`) stay the same unless `newKeys` is set. Replay caches
   * of other processes may keep replaying for their own `ttlMs`.
   *
   * @returns true if there was a record
   * @throws IdempotencyInFlightError while a run holds the key: deleting the record would not stop
   * that run
   * @throws IllegalTransactionStateError inside an open transaction
   * @throws InvalidArgumentError, IdempotencyRecordError, RedisUnavailableError
   */
  forget(key: string | KeyReference, options: ForgetOptions = {}): Promise<boolean> {
    const forget = async (): Promise<boolean> => {
      assertOutsideTransaction('Forgetting an idempotency key', undefined);
      return await this.administration.forget(key, options);
    };
    return this.observer.operation('idempotency.forget', forget, FORGOTTEN);
  }

  /** The number of keys that wait for an operator, up to 100; undefined on a Cluster. @internal */
  async heldCount(deadline: Deadline): Promise<number | undefined> {
    return await this.administration.heldCount(deadline);
  }

  /**
   * Takes the key for a run, or finds the result of an earlier one. For callers that end the run by
   * themselves.
   * @param checkMore of the caller's own arguments
   * @internal
   */
  claim(key: string, options: IdempotencyOptions, checkMore?: () => void): Promise<Claim> {
    const given: unknown = (options as IdempotencyOptions | null)?.operation;
    const operation = typeof given === 'string' ? given : '';
    const observed = this.observer.begin('idempotency.run', operation);
    return observed.within(() => this.claimObserved(key, options, operation, observed, checkMore));
  }

  /**
   * Ends the renewal of every lease: the signals of runs that have not settled abort with a
   * `ModuleClosedError`, and their keys are left to their leases, not given back. Called by the
   * module once shutdown has waited for them; nothing keeps the process alive afterwards.
   * @internal
   */
  close(): void {
    this.claimer.close();
  }

  private async claimObserved(
    key: string,
    options: IdempotencyOptions,
    operation: string,
    observed: ObservedCall,
    checkMore?: () => void,
  ): Promise<Claim> {
    let record = '';
    try {
      check.key('key', key);
      checkMore?.();
      checkCallOptions('options', options);
      assertOutsideTransaction('An idempotent run', options.propagation);
      const request = claimRequestOf(key, options, observed, this.connection, this.defaults);
      record = request.record;
      return await this.claimer.claim(request);
    } catch (error) {
      // Skipped if it was reported as a duplicate.
      observed.end(() => ({ type: 'idempotency.claim-failed', operation, record, error: errorName(error) }));
      throw error;
    }
  }
}
