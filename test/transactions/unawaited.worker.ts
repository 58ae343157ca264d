import { Test } from '@nestjs/testing';
import { Redis } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';
import { AtomicRedisModule, ReliableQueueService, TransactionService } from '../../lib/index.js';
import { startFaultProxy } from '../../lib/testing/index.js';
import { worker } from '../support/worker.js';
import { scenarios } from './unawaited-scenarios.js';

/**
 * Runs the scenario of that name under Node's default, by which a rejection that nobody handles
 * ends the process.
 */
worker<{ url: string; name: string }>(async ({ data }) => {
  const proxy = await startFaultProxy({ target: data.url });
  const client = new Redis(data.url);
  const app = await Test.createTestingModule({
    imports: [
      AtomicRedisModule.forRoot({ connection: proxy.url, namespace: 'atomic:', shutdownTimeoutMs: 1_000 }),
    ],
  }).compile();
  app.useLogger(false);
  await app.init();
  const transactions = app.get(TransactionService);
  const queues = app.get(ReliableQueueService);
  await client.mset('k', 50, 'k0', 0, 'k1', 0, 'k2', 0);
  await client.hset('limits', 'k', 10);
  let told: unknown;
  await scenarios[data.name]!({ transactions, queues, proxy, client }).then(
    () => (told = 'resolved'),
    (error: Error) => (told = error.constructor.name),
  );
  // Node reports a rejection once the microtasks are done.
  await sleep(100);
  await app.close();
  await proxy.stop();
  client.disconnect();
  return told;
});
