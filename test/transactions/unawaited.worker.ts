import { Redis } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';
import { ReliableQueueService, TransactionService } from '../../lib/index.js';
import { startFaultProxy } from '../../lib/testing/index.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';
import { scenarios } from './unawaited-scenarios.js';

/** Runs a scenario with an application of its own, and tells how it ended. */
async function play(url: string, name: string): Promise<string> {
  const proxy = await startFaultProxy({ target: url });
  const client = new Redis(url);
  const app = await startApp({ connection: proxy.url, shutdownTimeoutMs: 1_000 });
  const transactions = app.get(TransactionService);
  const queues = app.get(ReliableQueueService);
  await client.mset('k', 50, 'k0', 0, 'k1', 0, 'k2', 0);
  await client.hset('limits', 'k', 10);
  const told = await scenarios[name]!({ transactions, queues, proxy, client }).then(
    () => 'resolved',
    (error: Error) => error.constructor.name,
  );
  // Node reports a rejection once the microtasks are done.
  await sleep(100);
  await app.close();
  await proxy.stop();
  client.disconnect();
  return told;
}

/**
 * Runs the scenarios that it is told, one after the other, under Node's default, by which a
 * rejection that nobody handles ends the process.
 */
worker<{ url: string }>(async ({ data, next, send }) => {
  for (;;) {
    const { name } = await next<{ name: string }>();
    send({ name, told: name === 'none' ? await sleep(100, 'alive') : await play(data.url, name) });
  }
});
