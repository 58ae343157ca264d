import type { Observer } from '../observability/observer.js';
import type { OperationRunner } from '../operations/operation-runner.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import type { QueueKeys } from './queue-keys.js';

/** What of the library is used to get at a queue. */
export interface RedisAccess {
  readonly connection: RedisConnection;
  readonly operations: OperationRunner;
  readonly inFlight: WorkInFlight;
  readonly observer: Observer;
}

/** One queue. */
export interface QueueAccess {
  readonly redis: RedisAccess;
  readonly queue: string;
  /** For messages. */
  readonly title: string;
  readonly keys: QueueKeys;
}
