import { Test } from '@nestjs/testing';
import {
  AtomicRedisEvents,
  AtomicRedisModule,
  ReliableQueueService,
  TransactionService,
  type AtomicRedisOptions,
} from '../../lib/index.js';

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
  const app = await Test.createTestingModule({
    imports: [
      AtomicRedisModule.forRoot({
        connection,
        namespace: 'atomic:',
        ...options,
        queues: { retry: { minMs: 0, maxMs: 0 }, ...options.queues },
      }),
    ],
  }).compile();
  app.useLogger(false);
  await app.init();
  return {
    queues: app.get(ReliableQueueService),
    events: app.get(AtomicRedisEvents),
    transactions: app.get(TransactionService),
    close: () => app.close(),
  };
}
