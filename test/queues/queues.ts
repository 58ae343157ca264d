import {
  AtomicRedisEvents,
  ReliableQueueService,
  TransactionService,
  type AtomicRedisOptions,
} from '../../lib/index.js';
import type { RedisServer } from '../../lib/testing/index.js';
import { startApp } from '../support/app.js';

export interface TestQueues {
  readonly queues: ReliableQueueService;
  readonly events: AtomicRedisEvents;
  readonly transactions: TransactionService;
  close(): Promise<void>;
}

/**
 * An application with nothing but the module, whose log stays silent. Failed jobs do not wait,
 * unless the options say otherwise.
 */
export async function openQueues(
  connection: AtomicRedisOptions['connection'],
  options: Partial<AtomicRedisOptions> = {},
): Promise<TestQueues> {
  const app = await startApp({
    connection,
    ...options,
    queues: { retry: { minMs: 0, maxMs: 0 }, ...options.queues },
  });
  return {
    queues: app.get(ReliableQueueService),
    events: app.get(AtomicRedisEvents),
    transactions: app.get(TransactionService),
    close: () => app.close(),
  };
}

/**
 * Opens an application as `openQueues` does before each test, and closes it after. Call it inside
 * `describe`.
 */
export function useQueues(redis: { readonly server: RedisServer }): TestQueues {
  let app: TestQueues | undefined;
  beforeEach(async () => void (app = await openQueues(redis.server.url)));
  afterEach(() => app?.close());
  const current = (): TestQueues => {
    if (!app) throw new Error('useQueues: the application runs only while tests do');
    return app;
  };
  return {
    get queues() {
      return current().queues;
    },
    get events() {
      return current().events;
    },
    get transactions() {
      return current().transactions;
    },
    close: () => current().close(),
  };
}
