import { Inject, Injectable } from '@nestjs/common';
import { isObservable, lastValueFrom, type Observable } from 'rxjs';
import { OPTIONS } from '../atomic-redis.constants.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { assertNotRetried, Propagation } from '../redis/retried-work.js';
import { RedisConnection } from '../redis/redis-connection.js';
import { ScriptRunner } from '../redis/script-runner.js';
import { WorkInFlight } from '../redis/work-in-flight.js';
import { claimScript } from './claim.script.js';
import { completeScript } from './complete.script.js';
import { decide, type OnErrorOption } from './error-policy.js';
import type { IdempotencyModuleOptions } from './idempotency.options.js';
import type { Claim, ClaimedRun, ClaimRequest, IdempotentRun } from './idempotent-run.js';
import { OperationRegistry } from './operation-registry.js';
import { fingerprintOf } from './record-key.js';
import { releaseScript } from './release.script.js';
import { renewScript } from './renew.script.js';
import { RunClaimer } from './run-claimer.js';
import { replayed, storedError, storedValue, tombstone } from './stored-result.js';

export interface IdempotencyOptions extends Pick<
  IdempotencyModuleOptions,
  'ttlMs' | 'leaseMs' | 'timeoutMs'
> {
  /** Separates equal keys of different tenants or users. @default '' */
  scope?: string;
  /** Separates equal keys of different operations: `orders.create`. @default '' */
  operation?: string;
  /**
   * The payload, or what tells it from another: the same key with another one is an `IdempotencyMismatchError`. Made of JSON values, bytes
   * (`Buffer`, `Uint8Array`), bigints, dates (as their ISO strings) and objects with a `toJSON`; properties that are undefined do not count.
   * Default: not compared.
   */
  fingerprint?: unknown;
  /**
   * On a Cluster: a key whose hash slot the record is put into, so that a transaction on that slot can commit the run (`completesRun`). Only
   * what is fixed for the idempotency key may decide it (a path, a principal), never the payload: the same key with another payload would
   * look for its record elsewhere.
   */
  colocateWith?: string;
  /**
   * What becomes of the key when the work throws. Default, also in place of a callback that itself throws: `hold` for an error whose outcome is
   * unknown or applied, `replay` for an HttpException with a 4xx status, else `release`.
   */
  onError?: OnErrorOption;
  /** Inside a transaction, `outside` makes the run all the same, by each attempt; without it the call is refused. */
  propagation?: `${Propagation.Outside}`;
}

export const idempotencyCallChecks = {
  scope: stringOfAnyLength,
  operation: stringOfAnyLength,
  fingerprint: () => undefined,
  colocateWith: check.key,
  ttlMs: check.milliseconds(),
  leaseMs: check.waitMs(100),
  timeoutMs: check.waitMs(),
  onError: check.either(
    '"replay", "release", "hold" or a function',
    check.oneOf('replay', 'release', 'hold'),
    check.func,
  ),
  propagation: check.oneOf(Propagation.Outside),
} satisfies Record<keyof IdempotencyOptions, check.Check>;

const checkOptions = check.options(idempotencyCallChecks);

/**
 * Runs a piece of work once for each key, and gives its result to every later call with that key. In the memory of Redis 7.0, by `MEMORY USAGE`:
 *
 * - some 250 bytes for a run under way, for the length of its lease unless renewed;
 * - some 900 bytes for a result of 200 bytes, for `ttlMs`.
 */
@Injectable()
export class IdempotencyService {
  readonly defaults: Required<IdempotencyModuleOptions>;
  /** Which method each operation of `@Idempotent` stands for. */
  readonly operations = new OperationRegistry();
  private readonly claimer: RunClaimer;

  constructor(
    connection: RedisConnection,
    scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    @Inject(OPTIONS) options: ResolvedOptions,
  ) {
    this.defaults = options.idempotency;
    this.claimer = new RunClaimer(scripts, connection, inFlight, options.idempotency.maxResultBytes);
    connection.preload([claimScript, renewScript, completeScript, releaseScript]);
  }

  /**
   * Runs `work` unless a call with this key has run before, whose result is then returned: JSON values there and back. Two round trips for
   * the first call, one for a repeated one. While `work` runs its key is held by a lease that is renewed; `run.signal` aborts if it is lost.
   *
   * Of an Observable the last value is the result, for the first caller too; undefined if it ends without one.
   *
   * @throws whatever `work` throws, the same instance; on repeated calls what `onError` makes of it
   * @throws InvalidArgumentError before any command, for a wrong option and for a `fingerprint` that JSON would drop something of
   * @throws IdempotencyInFlightError while the first call runs
   * @throws IdempotencyMismatchError when the key was used with another `fingerprint`
   * @throws IdempotencyResultUnavailableError when the first call is over and its result could not be kept
   * @throws IdempotencyRecordError when something else, or a newer version's record, lies under the record's key
   * @throws RedisUnavailableError when the key could not be claimed in time; `work` did not run
   */
  async run<T>(
    key: string,
    work: (run: IdempotentRun) => Promise<T> | Observable<T> | T,
    options: IdempotencyOptions = {},
  ): Promise<T> {
    check.key('key', key);
    check.func('work', work);
    checkOptions('options', options);
    return await this.inFlight.track(async () => {
      const claim = await this.claim(key, options);
      if (claim.kind === 'replay') return replayed(claim.result) as T;
      return await this.runClaimed(claim.run, work, options.onError);
    });
  }

  /** Makes shutdown wait for `work`, up to its bound. For callers that end the run by themselves. */
  async track<T>(work: () => Promise<T>): Promise<T> {
    return await this.inFlight.track(work);
  }

  /** Takes the key for a run, or finds the result of an earlier one. For callers that end the run by themselves. */
  async claim(key: string, options: IdempotencyOptions): Promise<Claim> {
    assertNotRetried('An idempotent run', options.propagation);
    const request: ClaimRequest = {
      key,
      scope: options.scope ?? '',
      operation: options.operation ?? '',
      fingerprint: options.fingerprint === undefined ? '' : fingerprintOf(options.fingerprint),
      colocateWith: options.colocateWith,
      ttlMs: options.ttlMs ?? this.defaults.ttlMs,
      leaseMs: options.leaseMs ?? this.defaults.leaseMs,
      stepTimeoutMs: options.timeoutMs ?? this.defaults.timeoutMs,
    };
    return await this.claimer.claim(request);
  }

  /**
   * Ends the renewal of every lease: the signals of runs that have not settled abort with a `ModuleClosedError`, and their keys are left to
   * their leases, not given back. Called by the module once shutdown has waited for them; nothing keeps the process alive afterwards.
   */
  close(): void {
    this.claimer.close();
  }

  private async runClaimed<T>(
    run: ClaimedRun,
    work: (run: IdempotentRun) => Promise<T> | Observable<T> | T,
    onError?: OnErrorOption,
  ): Promise<T> {
    let value: T;
    try {
      value = await run.within(async () => await settled(work(run)));
    } catch (error) {
      await this.settleFailure(run, error, onError);
      throw error;
    }
    await run.complete(storedValue(value, this.defaults.maxResultBytes));
    return value;
  }

  private async settleFailure(run: ClaimedRun, error: unknown, onError?: OnErrorOption): Promise<void> {
    const policy = decide(onError, error);
    if (policy === 'release') await run.release();
    else if (policy === 'replay') await run.complete(storedError(error, this.defaults.maxResultBytes));
    else await run.complete(tombstone('outcome-unknown'));
  }
}

/** What the work comes to. An Observable is subscribed to here, so that what it does is part of the run. */
async function settled<T>(result: Promise<T> | Observable<T> | T): Promise<T> {
  const value = await result;
  return isObservable(value) ? ((await lastValueFrom(value, { defaultValue: undefined })) as T) : value;
}

function stringOfAnyLength(path: string, value: unknown): void {
  if (value !== '') check.nonEmptyString(path, value);
}
