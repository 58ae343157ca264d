import { setTimeout as sleep } from 'node:timers/promises';
import { AtomicRedisError, TransactionService } from 'nestjs-atomic-redis';
import { problemOf } from '../../lib/problem-details/problem.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, rawBytes, useInstances } from './support.js';

const LEASE_MS = 2_400;

describe('a Redis without free memory', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));
  const full = (isFull: boolean) => redis.client.config('SET', 'maxmemory', isFull ? '1' : '0');
  const records = (): Promise<string[]> => redis.client.keys('atomic:idempotency:*');

  afterEach(() => full(false));

  it('[ID-10] refuses a claim: nothing runs, and the call can be retried', async () => {
    const { idempotency } = await instances.start();
    const ran = jest.fn(() => 'ran');
    await full(true);
    const error = await idempotency
      .run('k', ran, { onUnavailable: 'run' })
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(AtomicRedisError);
    expect(problemOf(error as AtomicRedisError).problem).toMatchObject({ status: 503 });
    expect(ran).not.toHaveBeenCalled();
    await full(false);
    expect(await idempotency.run('k', ran)).toBe('ran');
  });

  it('[ID-1] is offered a result again within the lease, unchanged since its run ended', async () => {
    const { idempotency, events } = await instances.start({ idempotency: { codec: rawBytes } });
    const result = await idempotency.run('k', async () => {
      await full(true);
      return Buffer.from('the one');
    });
    result.fill(0);
    expect(await idempotency.inspect('k')).toMatchObject({ state: 'running' });
    await full(false);
    await waitFor('the event', () => events.length === 1);
    expect(events).toMatchObject([{ type: 'idempotency.run', outcome: 'completed' }]);
    expect((await idempotency.run('k', () => Buffer.from('another'))).toString()).toBe('the one');
  });

  it('[ID-12] renews leases, also beside a committed run that still runs', async () => {
    const { idempotency, module } = await instances.start();
    const transactions = module.get(TransactionService);
    const { promise, resolve } = gate();
    const lost: unknown[] = [];
    const run = (key: string, first: () => Promise<unknown>) =>
      idempotency.run(
        key,
        async ({ signal }) => {
          signal.addEventListener('abort', () => lost.push(key));
          await first();
          await promise;
        },
        { leaseMs: LEASE_MS },
      );
    const runs = [
      run('committed', () =>
        transactions.run(['n'], (tx) => void tx.write.incr('n'), { completesRun: () => 1 }),
      ),
    ];
    await waitFor('the commit', async () => (await redis.client.get('n')) === '1');
    for (let i = 0; i < 5; i++) runs.push(run(`k${i}`, async () => undefined));
    await waitFor('the others', async () => (await records()).length === 6);
    await full(true);
    await sleep(LEASE_MS * 1.5);
    expect(lost).toEqual([]);
    expect(await records()).toHaveLength(6);
    await full(false);
    resolve();
    await Promise.all(runs);
  });
});
