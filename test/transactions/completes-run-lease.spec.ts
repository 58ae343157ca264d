import type { TestingModule } from '@nestjs/testing';
import { IdempotencyService, LeaseLostError, TransactionService } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { renewScript } from '../../lib/idempotency/renew.script.js';
import { useApp } from '../support/app.js';
import { holdRequest } from '../support/hold-request.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { damageRecord } from '../support/idempotency-record.js';

const LEASE_MS = 3_000;
const NOTHING_APPLIED = { code: 'LEASE_LOST', outcome: 'not-applied', retryable: true };

describe('a transaction that completes a run whose lease is about to end', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let idempotency: IdempotencyService;
  let transactions: TransactionService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url, shutdownTimeoutMs: 500 });
    idempotency = app.get(IdempotencyService);
    transactions = app.get(TransactionService);
  });

  afterEach(async () => {
    proxy.reset();
    await proxy.stop();
  });

  const increment = (): Promise<number> =>
    transactions.run(
      ['n'],
      async (tx) => {
        const next = Number(await tx.read.get('n')) + 1;
        tx.write.set('n', next);
        return next;
      },
      { completesRun: (value) => value },
    );
  const run = (work: () => Promise<number>, leaseMs = LEASE_MS): Promise<number> =>
    idempotency.run('key', work, { leaseMs });
  const recordOf = async (): Promise<string> => (await redis.client.keys('atomic:idempotency:*'))[0]!;
  const failureOf = (running: Promise<unknown>): Promise<unknown> =>
    running.then(
      () => undefined,
      (error: unknown) => error,
    );

  it('[TX-14] renews again when the renewal was not answered in time, and is applied once', async () => {
    // A renewal is given a third of the lease.
    const late = proxy.delay({
      replyMs: LEASE_MS / 3 + 300,
      match: ({ name, args }: RedisCommand) => name === 'EVALSHA' && args[0]?.toString() === renewScript.sha,
    });
    await expect(run(increment)).resolves.toBe(1);
    expect(late.count).toBe(1);
    expect(await redis.client.get('n')).toBe('1');
  });

  it('[TX-14] reports that nothing was applied when the key was lost before WATCH, and does not hold it', async () => {
    const failure = await failureOf(
      run(async () => {
        proxy.refuseConnections(true);
        proxy.disconnectAll();
        // Until the lease has ended and before another call takes the key.
        await waitFor('the end of the lease', async () => (await redis.client.dbsize()) === 0);
        proxy.refuseConnections(false);
        return await increment();
      }, 600),
    );
    expect(failure).toBeInstanceOf(LeaseLostError);
    expect(failure).toMatchObject(NOTHING_APPLIED);
    await expect(run(increment)).resolves.toBe(1);
  });

  it.each([
    ['another owner', (record: string) => damageRecord(redis.client, record, { token: 'another owner' })],
    ['nobody', (record: string) => redis.client.del(record)],
    ['another type', (record: string) => redis.client.multi().del(record).hset(record, 'field', 1).exec()],
  ])(
    '[TX-14] reports that nothing was applied when the key was lost to %s between the renewal and WATCH',
    async (_, lose) => {
      const failure = await failureOf(
        run(async () => {
          const isWatch = { match: ({ name }: RedisCommand) => name === 'WATCH' };
          const lost = holdRequest(proxy, isWatch, async () => lose(await recordOf()));
          const incrementing = increment();
          incrementing.catch(() => undefined);
          await lost;
          return await incrementing;
        }),
      );
      expect(failure).toBeInstanceOf(LeaseLostError);
      expect(failure).toMatchObject(NOTHING_APPLIED);
      expect(await redis.client.exists('n')).toBe(0);
    },
  );

  it('[TX-14] reports a lost lease, and not a conflict, when the key was lost between its reads and its only EXEC', async () => {
    const failure = await failureOf(
      idempotency.run(
        'key',
        ({ signal }) =>
          transactions.run(
            ['n'],
            async (tx) => {
              await tx.read.get('n');
              await waitFor('the end of the run', () => signal.aborted);
              await redis.client.del(await recordOf());
              tx.write.set('n', 1);
            },
            { completesRun: () => 1, maxAttempts: 1 },
          ),
        { leaseMs: LEASE_MS, maxRunMs: LEASE_MS / 10 },
      ),
    );
    expect(failure).toBeInstanceOf(LeaseLostError);
    expect(failure).toMatchObject(NOTHING_APPLIED);
    expect(await redis.client.exists('n')).toBe(0);
  });
});
