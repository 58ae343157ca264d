import * as check from '../atomic-redis.validation.js';
import { withDefaults } from '../atomic-redis.validation.js';
import { checkDurability, copyDurability, type DurabilityOptions } from '../connection/durability.js';
import type { OnAbandoned } from './abandoned.options.js';
import type { CallerRequest } from './http/caller.js';
import { checkReplayHeaders } from './http/replay-headers.js';
import {
  checkHeaders,
  checkPreset,
  resolveHeaders,
  type IdempotencyHeaders,
  type IdempotencyPreset,
} from './http/idempotency-headers.js';
import { jsonCodec, type ResultCodec, type ResultEncryption } from './result-codec.js';

/**
 * Fate of the key when the method throws: the error is kept and thrown again to repeated calls
 * (`replay`), the next call runs (`release`), or no call runs again (`hold`). The first caller gets
 * the error itself in each case. `replay` keeps status and response of an HttpException, name and
 * message of another Error (thrown again as a `ReplayedError`), and the JSON value of what is no
 * Error. @inline
 */
export type OnError = 'replay' | 'release' | 'hold';

/** Options of the cache of results in this process. @inline */
export interface ReplayCacheOptions {
  /** Memory for all its entries together, in bytes. */
  maxBytes: number;
  /**
   * Time that an entry is used without asking Redis, in milliseconds; never longer than Redis keeps
   * the result. A result that another process forgets (`IdempotencyService.forget`) may be replayed
   * here until then. @default 60000
   */
  ttlMs?: number;
}

/** Defaults of `IdempotencyService` and `@Idempotent` that single calls may change. @inline */
export interface IdempotencyDefaults {
  /**
   * Time that a result is kept for replay, in milliseconds. That of a run with steps, or with
   * `onAbandoned`, is kept for `leaseMs` and a second at least, as a late renewal would bring such
   * a run back. @default 86400000 (24 hours)
   */
  ttlMs?: number;
  /**
   * Time that a run holds its key without a renewal, in milliseconds. The run renews it after a
   * third of that time.
   * @default 30000
   */
  leaseMs?: number;
  /**
   * Time for which a run's lease is renewed, in milliseconds: a method that hangs does not keep its
   * key for ever. Then `run.signal` aborts, and once the lease has ended another call may run.
   * @default 3600000 (an hour)
   */
  maxRunMs?: number;
  /**
   * Attempts of a run with steps: after each death or failure, a call with its key continues it.
   * After so many the key is held for an operator.
   * @default 10
   */
  maxAttempts?: number;
  /**
   * Fate of a call whose run died, or stood still for longer than its lease. `run`: a call with its
   * key runs; without steps it begins from the start. `hold`: no call runs; the key is held for an
   * operator. A probe is given the `AbandonedRun`, and finds out. Unless it is `run`, the record is
   * kept for `heldTtlMs` after the lease.
   * @default 'run'
   */
  onAbandoned?: OnAbandoned;
  /**
   * Time for one step on Redis before the protected method is refused, in milliseconds.
   * @default 800
   */
  timeoutMs?: number;
  /**
   * Behaviour of a call that finds the first one running: `refuse` throws an
   * `IdempotencyInFlightError` at once; `wait` waits for the result, or for its turn when the first
   * one gives the key back. @default 'refuse'
   */
  onDuplicate?: 'refuse' | 'wait';
  /**
   * Time that a waiting call waits before it throws an `IdempotencyInFlightError`, in milliseconds.
   * @default 10000
   */
  waitTimeoutMs?: number;
  /**
   * Behaviour of a call while Redis cannot be reached: `refuse` throws a `RedisUnavailableError`;
   * `run` runs the method without any protection, and reports it with an
   * `idempotency.ran-unprotected` event and a log line. @default 'refuse'
   */
  onUnavailable?: 'refuse' | 'run';
  /**
   * Turns returned values into bytes and back. Responses over HTTP are kept as they were sent, and
   * errors as JSON. @default JSON, for values that it gives back unchanged
   */
  codec?: ResultCodec;
  /**
   * Waits for replicas. Without their claim the method does not run (`RedisUnavailableError`). The
   * caller gets the result once they have it, or at the end of their time; then the run's event
   * says `replicated: false`. False does not wait. Default: the module's
   * `durability`, else no wait.
   */
  durability?: DurabilityOptions | false;
}

/** Options of `IdempotencyService` and `@Idempotent`, as the module's `idempotency` option. @inline */
export interface IdempotencyModuleOptions extends IdempotencyDefaults {
  /**
   * Largest result that is kept, in bytes; a larger one is returned, but a repeated call gets an
   * error.
   * @default 1048576
   */
  maxResultBytes?: number;
  /**
   * Memory for the responses that this process records at a time, over all registrations, in bytes.
   * Beyond it a response goes to the client unrecorded, and a repeated request gets an error; one
   * that cannot flow (HTTP/1.0) is broken off. @default 67108864 (64 MiB)
   */
  maxRecordingBytes?: number;
  /**
   * Headers of a response that a replay repeats beside `content-type`, `content-language`,
   * `content-disposition`, `content-encoding`, `content-location`, `cache-control`, `etag`,
   * `last-modified`, `link`, `location`, `retry-after` and `vary`. Cookies, dates, request ids and
   * headers that frame a message are refused. @default []
   */
  replayHeaders?: readonly string[];
  /**
   * Time in milliseconds that a key with an unknown outcome is held, and that a run with steps is
   * kept after it died or failed. Until then no call runs what may have been done. @default
   * 604800000 (7 days)
   */
  heldTtlMs?: number;
  /** Steps of one run, at the most. @default 100 */
  maxSteps?: number;
  /**
   * Memory for the results of the steps of one run, in bytes; one beyond it is given to its caller
   * and not kept, so that a later attempt is held.
   * @default 1048576
   */
  maxStepBytes?: number;
  /** Time for a probe to find out what an earlier attempt did, in milliseconds. @default 10000 */
  probeTimeoutMs?: number;
  /** Refuse requests to a decorated route that have no idempotency key. @default true */
  required?: boolean;
  /** A set of header names that others use. `headers` takes precedence. @default 'ietf' */
  preset?: IdempotencyPreset;
  /**
   * Names of the headers of key and replay, and whether the key is sent back. Default: the
   * preset's.
   */
  headers?: IdempotencyHeaders;
  /**
   * Refuse requests to a decorated route that nothing tells from those of others: no caller that
   * the server names, no credential, no session. Else all such callers are one, and the key alone
   * is their secret. A `scope` takes its place. @default false
   */
  requireCaller?: boolean;
  /**
   * Names the caller of a request to a decorated route, in place of the library's own rules: equal
   * keys of different scopes are different. It decides alone. May be async. Anything but a
   * non-empty string refuses the request with a `ConfigurationError`, so name guests too.
   *
   * ```ts
   * scope: (request: Request) => `${request.tenant.id}/${request.account?.id ?? 'guest'}`
   * ```
   */
  scope?: RequestScope;
  /**
   * Keep results of completed runs in this process too, to replay them without asking Redis.
   * Default: none are.
   */
  replayCache?: ReplayCacheOptions;
  /**
   * Encrypts all that is stored of a result: values, errors and responses. Default: stored as it
   * is.
   */
  encryption?: ResultEncryption;
}

/**
 * Says whose call a request is. Its parameter may be annotated as the request of Express or of
 * Fastify. @inline
 */
export type RequestScope = {
  /** @returns the scope; anything but a non-empty string refuses the request */
  of(request: CallerRequest): string | Promise<string>;
}['of'];

type Optional = 'scope' | 'replayCache' | 'encryption' | 'durability';

export type ResolvedIdempotencyOptions = Required<
  Omit<IdempotencyModuleOptions, Optional | 'preset' | 'headers'>
> &
  Pick<IdempotencyModuleOptions, Exclude<Optional, 'durability'>> & {
    readonly headers: Required<IdempotencyHeaders>;
    readonly durability: DurabilityOptions | undefined;
  };

/** The defaults. @internal Exported for tests, which give a claim more time on a busy machine. */
export const idempotencyDefaults: Omit<ResolvedIdempotencyOptions, Optional | 'headers'> = {
  ttlMs: 86_400_000,
  leaseMs: 30_000,
  maxRunMs: 3_600_000,
  maxAttempts: 10,
  onAbandoned: 'run',
  timeoutMs: 800,
  onDuplicate: 'refuse',
  waitTimeoutMs: 10_000,
  onUnavailable: 'refuse',
  codec: jsonCodec,
  maxResultBytes: 1_048_576,
  maxRecordingBytes: 67_108_864,
  heldTtlMs: 604_800_000,
  maxSteps: 100,
  maxStepBytes: 1_048_576,
  probeTimeoutMs: 10_000,
  replayHeaders: [],
  required: true,
  requireCaller: false,
};

/** @param all the module's own, for what waits for replicas */
export const resolveIdempotencyOptions = (
  given: IdempotencyModuleOptions | undefined,
  all: DurabilityOptions | undefined,
): ResolvedIdempotencyOptions => {
  const { preset, headers, durability = all, ...options } = given ?? {};
  return {
    ...withDefaults<Omit<ResolvedIdempotencyOptions, 'durability'>>(
      { ...idempotencyDefaults, headers: resolveHeaders(preset, headers) },
      options,
    ),
    durability: copyDurability(durability),
  };
};

export const idempotencyDefaultChecks = {
  ttlMs: check.milliseconds(),
  leaseMs: check.waitMs(100),
  maxRunMs: check.waitMs(),
  maxAttempts: check.integer(1, 1_000_000),
  onAbandoned: check.either('"run", "hold" or a function', check.oneOf('run', 'hold'), check.func),
  timeoutMs: check.waitMs(),
  onDuplicate: check.oneOf('refuse', 'wait'),
  waitTimeoutMs: check.waitMs(),
  onUnavailable: check.oneOf('refuse', 'run'),
  codec: check.methods('encode', 'decode'),
  durability: checkDurability,
} satisfies Record<keyof IdempotencyDefaults, check.Check>;

export const idempotencyOptionChecks: Record<keyof IdempotencyModuleOptions, check.Check> = {
  ...idempotencyDefaultChecks,
  maxResultBytes: check.integer(0, 512 * 1_048_576),
  maxRecordingBytes: check.integer(0),
  heldTtlMs: check.milliseconds(1_000),
  maxSteps: check.integer(1, 10_000),
  maxStepBytes: check.integer(0, 512 * 1_048_576),
  probeTimeoutMs: check.waitMs(),
  replayHeaders: checkReplayHeaders,
  required: check.boolean,
  preset: checkPreset,
  headers: checkHeaders,
  requireCaller: check.boolean,
  scope: check.func,
  replayCache: check.options(
    { maxBytes: check.integer(1), ttlMs: check.milliseconds() } satisfies Record<
      keyof ReplayCacheOptions,
      check.Check
    >,
    'maxBytes',
  ),
  encryption: check.methods('encrypt', 'decrypt'),
};
