import type { Observer } from '../observability/observer.js';
import type { OperationRunner } from '../operations/operation-runner.js';
import type { ResolvedDefaults } from '../operations/operation.options.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import type { QueueKeys } from './queue-keys.js';

/** The parts of the library that reach a queue. */
export interface RedisAccess {
  readonly connection: RedisConnection;
  readonly operations: OperationRunner;
  readonly inFlight: WorkInFlight;
  readonly observer: Observer;
  /** The defaults of pushes. */
  readonly defaults: ResolvedDefaults;
  /** The defaults of all other calls, which wait for no replicas and are sent again. */
  readonly ofJobs: ResolvedDefaults;
}

/** One queue. */
export interface QueueAccess {
  readonly redis: RedisAccess;
  readonly queue: string;
  /** For messages. */
  readonly title: string;
  readonly keys: QueueKeys;
}
