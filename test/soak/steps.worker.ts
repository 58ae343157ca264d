import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import {
  AtomicRedisError,
  IdempotencyService,
  TransactionService,
  type IdempotentRun,
} from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { recordOperation } from '../histories/recorder.js';
import { worker } from '../support/worker.js';
import { seededRandom } from './random.js';

export interface StepsJob {
  /** URLs of the fault proxy of each worker. */
  readonly urls: readonly string[];
  /** Without faults: third parties, where effects are counted. */
  readonly effectsUrl: string;
  readonly keys: number;
  readonly leaseMs: number;
  readonly seed: number;
}

/** Keys at a time in each worker. */
const CALLERS = 4;

/** Calls until every key has a result, or is held. */
worker<StepsJob>(async ({ data, index, send }) => {
  const { urls, effectsUrl, keys, leaseMs, seed } = data;
  const app = await startApp({
    connection: urls[index % urls.length]!,
    idempotency: { leaseMs, maxAttempts: 1_000, timeoutMs: 2_000 },
  });
  const [idempotency, transactions] = [app.get(IdempotencyService), app.get(TransactionService)];
  const effects = new Redis(effectsUrl);
  const random = seededRandom(seed * 1_009 + index);
  const pause = (): Promise<void> => sleep(random() * 150);

  const pay =
    (key: string) =>
    async (run: IdempotentRun): Promise<string> => {
      await run.step('charge', async (step) => {
        await pause();
        // A provider that knows keys: the same one again is no second charge.
        await effects.sadd(`charges:${key}`, step.key);
        await pause();
      });
      await run.step('reserve', async () => {
        await pause();
        await transactions.run([`stock:${key}`], (tx) => void tx.write.incr(`stock:${key}`), {
          completesStep: () => null,
        });
        await pause();
      });
      await run.step(
        'transfer',
        async () => {
          await pause();
          // A bank that knows none.
          await effects.incr(`transfers:${key}`);
          await pause();
        },
        { onInterrupted: 'hold' },
      );
      return 'paid';
    };

  // Includes the runs of the process that this one replaces.
  const over = new Set(await effects.smembers('over'));
  const open = Array.from({ length: keys }, (_, i) => `key ${i}`)
    .filter((key) => !over.has(key))
    .toSorted(() => random() - 0.5);
  send({ ready: true });
  const caller = async (): Promise<void> => {
    for (let key = open.pop(); key !== undefined; key = open.pop()) {
      try {
        const paid = key;
        await recordOperation({ name: 'pay', key, args: [] }, () =>
          idempotency.run(paid, pay(paid), { operation: 'payments.pay' }),
        );
        await effects.sadd('over', key);
      } catch (error) {
        if (!(error instanceof AtomicRedisError)) throw error;
        if (error.code === 'IDEMPOTENCY_OUTCOME_UNKNOWN') {
          await effects.sadd('over', key);
          continue;
        }
        // In flight, out of reach, or not known yet: asked again later.
        open.unshift(key);
        await pause();
      }
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  effects.disconnect();
  await app.close();
  return true;
});
