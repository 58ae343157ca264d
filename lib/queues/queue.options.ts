import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { integer, key, oneOf, waitMs, type Check } from '../atomic-redis.validation.js';
import { resolveRetry, retryCheck, retryDefaults, type RetryBackOff } from './back-off.js';
import {
  copyOperationOptions,
  operationOptionChecks,
  serviceDefaultChecks,
  type OperationOptions,
  type ServiceDefaults,
} from '../operations/operation.options.js';

/** Defaults of `ReliableQueueService`. */
export interface QueueDefaults {
  /**
   * Time that a job belongs to the process that took it, in milliseconds. Then another one gets it,
   * unless its lease was prolonged. A consumer prolongs the leases of its jobs by itself: for it,
   * this is the time after which the jobs of a process that died run again. @default 30000
   */
  leaseMs?: number;
  /**
   * Number of deliveries before a job goes to the dead letters. Give the same number to every
   * consumer of a queue: the one that ends a delivery decides. @default 5
   */
  maxDeliveries?: number;
  /**
   * Wait of a job after a failed delivery, by Redis's clock. Each wait is drawn evenly from one
   * step to the next, and each step is six times the one before: by default 1 to 6 s, 6 to 36 s, 36
   * to 216 s, 216 to 1296 s. So a service that jobs call may be away for four minutes, and no job
   * is given up. A job of a process that died does not wait. A field that is absent is the
   * module's.
   */
  retry?: RetryBackOff;
}

/** All of them. */
export type ResolvedQueueDefaults = Required<Omit<QueueDefaults, 'retry'>> & {
  readonly retry: Required<RetryBackOff>;
};

/** The module's `queues` option. @inline */
export interface QueueModuleOptions extends QueueDefaults, ServiceDefaults {
  /**
   * Names of queues that metrics tell apart, beside those of `@QueueConsumer`. For any other queue
   * they report only the pattern: queues may be named at run time, and each name would make metrics
   * of its own. @default none
   */
  names?: readonly string[];
}

/** Options of one queue, by `queues.get(name, options)`. */
export interface QueueOptions extends QueueDefaults {
  /**
   * `json` sends what `JSON.stringify` makes of a payload; `bytes` takes and gives Buffers as they
   * are.
   * @default 'json'
   */
  format?: 'json' | 'bytes';
}

export type ResolvedQueueOptions = ResolvedQueueDefaults & { readonly names: readonly string[] };

/** Fills in the defaults of the module's options. */
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

export const queueModuleOptionChecks: Record<keyof QueueModuleOptions, Check> = {
  ...defaultChecks,
  ...serviceDefaultChecks,
  names,
};

export const queueOptionChecks: Record<keyof QueueOptions, Check> = {
  ...defaultChecks,
  format: oneOf('json', 'bytes'),
};

/** Options of calls on jobs and dead letters. @inline */
export interface QueueCallOptions extends Omit<OperationOptions, 'durability'> {}

const { durability: _, ...callOptionChecks } = operationOptionChecks;
export const queueCallOptionChecks: Record<keyof QueueCallOptions, Check> = callOptionChecks;

/** Stands for the options of a call that has none. */
export const NO_OPTIONS: OperationOptions = Object.freeze({});

/** Copies options that were checked: calls of one turn leave together, after it. */
export const copyCallOptions = <Options extends OperationOptions>(options: Options): Options =>
  options === NO_OPTIONS ? options : (copyOperationOptions(options) as Options);
