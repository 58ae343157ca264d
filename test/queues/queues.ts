import { Test } from '@nestjs/testing';
import { AtomicRedisModule, ReliableQueueService, type AtomicRedisOptions } from '../../lib/index.js';

export interface TestQueues {
  readonly queues: ReliableQueueService;
  close(): Promise<void>;
}

/** An application with nothing but the module, whose log stays silent. */
export async function openQueues(
  connection: AtomicRedisOptions['connection'],
  options: Partial<AtomicRedisOptions> = {},
): Promise<TestQueues> {
  const app = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection, namespace: 'atomic:', ...options })],
  }).compile();
  app.useLogger(false);
  await app.init();
  return { queues: app.get(ReliableQueueService), close: () => app.close() };
}
