import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { integer, key, oneOf, waitMs, type Check } from '../atomic-redis.validation.js';
import { resolveRetry, retryCheck, retryDefaults, type RetryBackOff } from './back-off.js';
import {
  copyOperationOptions,
  operationOptionChecks,
  type OperationOptions,
} from '../redis/operation-runner.js';

/** Defaults of `ReliableQueueService`. */
export interface QueueDefaults {
  /**
   * How long a job belongs to who took it, in milliseconds. After that it is given to another, unless its lease was prolonged. A consumer prolongs
   * the leases of its jobs by itself, so for it this is how soon the jobs of a process that died are run again. @default 30000
   */
  leaseMs?: number;
  /**
   * How often a job is delivered before it goes to the dead letters. To be the same for all that take from a queue: whoever ends a delivery
   * judges it. @default 5
   */
  maxDeliveries?: number;
  /**
   * How long a job waits after a failed delivery, by Redis's clock. Each wait is drawn evenly from one step to the next, and each step is six times the one before:
   * by default 1 to 6 s, 6 to 36 s, 36 to 216 s, 216 to 1296 s. So what a job calls may be away for four minutes, and it is not given up. A job of a process that died does not wait.
   * What is absent is as the module has it.
   */
  retry?: RetryBackOff;
}

/** All of them. */
export type ResolvedQueueDefaults = Required<Omit<QueueDefaults, 'retry'>> & {
  readonly retry: Required<RetryBackOff>;
};

/** The module's `queues` option. */
export interface QueueModuleOptions extends QueueDefaults {
  /**
   * Names of queues that metrics tell apart, beside those of `@QueueConsumer`. Of any other only the pattern is told: queues may be named at run time, and each name
   * would make metrics of its own. @default none
   */
  names?: readonly string[];
}

/** Options of one queue, by `queues.get(name, options)`. */
export interface QueueOptions extends QueueDefaults {
  /** `json` sends what `JSON.stringify` makes of a payload; `bytes` takes and gives Buffers as they are. @default 'json' */
  format?: 'json' | 'bytes';
}

export type ResolvedQueueOptions = ResolvedQueueDefaults & { readonly names: readonly string[] };

/** What the module's options come to. */
export function resolveQueueOptions(given: QueueModuleOptions = {}): ResolvedQueueOptions {
  const { leaseMs = 30_000, maxDeliveries = 5, names = [] } = given;
  return { leaseMs, maxDeliveries, names, retry: resolveRetry(retryDefaults, given.retry) };
}

/** A shorter lease could not be renewed in time. */
export const leaseMsCheck: Check = waitMs(100);

const defaultChecks: Record<keyof QueueDefaults, Check> = {
  leaseMs: leaseMsCheck,
  maxDeliveries: integer(1, 1_000_000),
  retry: retryCheck,
};

const names: Check = (path, value) => {
  if (!Array.isArray(value)) throw new InvalidArgumentError(path, 'an array of names', value);
  for (const [i, name] of value.entries()) key(`${path}[${i}]`, name);
};

export const queueModuleOptionChecks: Record<keyof QueueModuleOptions, Check> = { ...defaultChecks, names };

export const queueOptionChecks: Record<keyof QueueOptions, Check> = {
  ...defaultChecks,
  format: oneOf('json', 'bytes'),
};

/** Of calls on jobs and dead letters. */
export type QueueCallOptions = Omit<OperationOptions, 'durability'>;

const { timeoutMs, marker, propagation } = operationOptionChecks;

export const queueCallOptionChecks: Record<keyof QueueCallOptions, Check> = {
  timeoutMs,
  marker,
  propagation,
};

/** What calls are given that were given no options. */
export const NO_OPTIONS: OperationOptions = Object.freeze({});

/** Copies options that were checked: calls of one turn leave together, after it. */
export const copyCallOptions = <Options extends OperationOptions>(options: Options): Options =>
  options === NO_OPTIONS ? options : (copyOperationOptions(options) as Options);
