import { Controller, Injectable, Param, Post, type INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  AtomicRedisModule,
  Idempotent,
  IdempotencyInFlightError,
  IdempotencyResultUnavailableError,
  IdempotencyService,
  InjectTransaction,
  LeaseLostError,
  OptimisticRetry,
  Transaction,
  IllegalTransactionStateError,
  TransactionService,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { completeScript } from '../../lib/idempotency/complete.script.js';
import { renewScript } from '../../lib/idempotency/renew.script.js';
import { startWorker } from '../support/workers.js';
import { useRedis } from '../support/redis.js';
import { damageRecord, readRecord } from '../support/idempotency-record.js';

const onExec = { match: ({ name }: RedisCommand) => name === 'EXEC' };
const on = ({ sha }: { sha: string }, times = 1) => ({
  match: ({ name, args }: RedisCommand) => name === 'EVALSHA' && args[0]?.toString() === sha,
  times,
});

@Injectable()
class Accounts {
  constructor(@InjectTransaction() private readonly tx: Transaction) {}

  @OptimisticRetry({ watch: (id: string) => `account:{${id}}`, completesRun: (balance) => ({ balance }) })
  async deposit(id: string): Promise<number> {
    const balance = Number(await this.tx.read.get(`account:{${id}}`)) + 1;
    this.tx.write.set(`account:{${id}}`, balance);
    return balance;
  }
}

@Controller('accounts')
class AccountsController {
  constructor(private readonly accounts: Accounts) {}

  @Post(':id/deposits')
  @Idempotent()
  async deposit(@Param('id') id: string): Promise<object> {
    return { balance: await this.accounts.deposit(id), greeting: 'thank you' };
  }
}

describe('a transaction that completes the idempotent run around it', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: INestApplication;
  let idempotency: IdempotencyService;
  let transactions: TransactionService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    const module = await Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({ connection: proxy.url, namespace: 'atomic:', shutdownTimeoutMs: 500 }),
      ],
      controllers: [AccountsController],
      providers: [Accounts],
    }).compile();
    module.useLogger(false);
    app = module.createNestApplication();
    await app.listen(0, '127.0.0.1');
    idempotency = app.get(IdempotencyService);
    transactions = app.get(TransactionService);
  });

  afterEach(async () => {
    await app.close();
    await proxy.stop();
  });

  const increment = (completesRun?: (result: unknown) => unknown): Promise<number> =>
    transactions.run(
      ['k'],
      async (tx) => {
        const next = Number(await tx.read.get('k')) + 1;
        tx.write.set('k', next);
        return next;
      },
      { completesRun },
    );
  const keep = (result: unknown): unknown => ({ committed: result });
  const recordOf = async (): Promise<string> => (await redis.client.keys('atomic:idempotency:*'))[0]!;

  it('[TX-14] writes the record in its own EXEC, and the run’s own result completes it', async () => {
    const result = await idempotency.run('key', async () => {
      await increment(keep);
      expect(await readRecord(redis.client, await recordOf())).toMatchObject({
        state: 'committed',
        kind: 'value',
      });
      return 'the whole result';
    });
    expect(result).toBe('the whole result');
    await expect(idempotency.run('key', () => 'ran again')).resolves.toBe('the whole result');
    expect(await redis.client.pttl(await recordOf())).toBeGreaterThan(80_000_000);
  });

  it('[TX-14] gives a retry the committed value when the run did not live to store its result', async () => {
    proxy.cutBeforeServer(on(completeScript, Infinity));
    await idempotency.run('key', () => increment(keep), { timeoutMs: 500, leaseMs: 2_500 });
    const again = (onDuplicate: 'refuse' | 'wait') =>
      idempotency.run('key', () => 'ran again', { onDuplicate, timeoutMs: 5_000 });
    // Until its lease ends it may yet store more than was committed.
    await expect(again('refuse')).rejects.toThrow(IdempotencyInFlightError);
    await expect(again('wait')).resolves.toEqual({ committed: 1 });
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-14] writes nothing when completesRun throws, and leaves nothing watched behind', async () => {
    const broken = (): never => {
      throw new Error('no result');
    };
    await expect(idempotency.run('key', () => increment(broken))).rejects.toThrow('no result');
    expect(await redis.client.get('k')).toBeNull();
    await redis.client.set('k', 'changed by somebody else');
    let attempts = 0;
    // The one connection of the pool, which is lent again.
    await transactions.run(['other'], (tx) => {
      attempts++;
      tx.write.set('other', 'written');
    });
    expect(attempts).toBe(1);
  });

  it.each([
    ['the value committed with it', keep, { committed: 1 }],
    ['that the answer is not available', () => undefined, IdempotencyResultUnavailableError],
  ])(
    '[TX-14] after kill -9 behind EXEC, a retry gets %s, and the effects are there once',
    async (_, completesRun, expected) => {
      const worker = startWorker({
        script: require.resolve('./completes-run.worker.ts'),
        data: { url: redis.server.url, value: completesRun(1) ?? null },
      });
      await worker.next();
      await worker.kill();
      await worker.result.catch(() => undefined);
      const retry = idempotency.run('key', () => increment(), { onDuplicate: 'wait' });
      if (typeof expected === 'function') await expect(retry).rejects.toThrow(expected);
      else await expect(retry).resolves.toEqual(expected);
      expect(await redis.client.get('k')).toBe('1');
    },
  );

  it('[TX-14] leaves both or neither when EXEC is lost or never arrives', async () => {
    proxy.loseReplies(onExec);
    await idempotency.run('lost', () => increment(keep));
    expect(await redis.client.get('k')).toBe('1');
    proxy.cutBeforeServer(onExec);
    await idempotency.run('cut', () => increment(keep));
    expect(await redis.client.get('k')).toBe('2');
    await expect(idempotency.run('lost', () => 'again')).resolves.toBe(1);
    await expect(idempotency.run('cut', () => 'again')).resolves.toBe(2);
  });

  it('[TX-14] writes nothing for a run that lost its key', async () => {
    const stale = idempotency.run('key', async () => {
      await damageRecord(redis.client, await recordOf(), { token: 'another owner' });
      return await increment(keep);
    });
    await expect(stale).rejects.toThrow(LeaseLostError);
    expect(await redis.client.exists('k')).toBe(0);
  });

  it('[TX-14] writes nothing for a run that loses its key between WATCH and EXEC', async () => {
    const stale = idempotency.run('key', () =>
      transactions.run(
        ['k'],
        async (tx) => {
          await tx.read.get('k');
          await damageRecord(redis.client, await recordOf(), { token: 'another owner' });
          tx.write.set('k', 1);
        },
        { completesRun: keep },
      ),
    );
    await expect(stale).rejects.toThrow(LeaseLostError);
    expect(await redis.client.exists('k')).toBe(0);
  });

  it.each([
    ['less than the lease', 700],
    ['longer than the lease', 2_500],
  ])(
    '[TX-14] commits at its first attempt though its work takes %s: no renewal of its own aborts it',
    async (_, workMs) => {
      const attempts: number[] = [];
      const renewed = proxy.delay({ ...on(renewScript, Infinity), replyMs: 0 });
      await idempotency.run(
        'key',
        () =>
          transactions.run(
            ['k'],
            async (tx) => {
              attempts.push(tx.attempt);
              await new Promise((resolve) => setTimeout(resolve, workMs));
              tx.write.incr('k');
            },
            { completesRun: keep, maxAttempts: 1 },
          ),
        { leaseMs: 1_200 },
      );
      expect(attempts).toEqual([1]);
      expect(await redis.client.get('k')).toBe('1');
      expect(renewed.count).toBe(1);
    },
  );

  it.each([
    ['prolongs a lease that would end before the transaction may', 3_000, 1],
    ['leaves a lease alone that lasts longer than the transaction may', 60_000, 0],
  ])('[TX-14] %s, before WATCH', async (_, leaseMs, renewals) => {
    const renewed = proxy.delay({ ...on(renewScript, Infinity), replyMs: 0 });
    let lasts = 0;
    await idempotency.run(
      'key',
      () =>
        transactions.run(
          ['k'],
          async (tx) => {
            const [record] = await redis.client.keys('atomic:idempotency:*');
            lasts = await redis.client.pttl(record!);
            tx.write.incr('k');
          },
          { completesRun: keep, timeoutMs: 10_000 },
        ),
      { leaseMs },
    );
    expect(renewed.count).toBe(renewals);
    expect(lasts).toBeGreaterThan(9_000);
  });

  it('[TX-14] completes a run once, and only inside one', async () => {
    await expect(increment(keep)).rejects.toThrow(IllegalTransactionStateError);
    const twice = idempotency.run('key', async () => {
      await increment(keep);
      await increment(keep);
    });
    await expect(twice).rejects.toThrow(/once/);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-14] never gives a committed key back, though the method fails afterwards', async () => {
    const failing = idempotency.run('key', async () => {
      await increment(keep);
      throw new Error('after the commit');
    });
    await expect(failing).rejects.toThrow('after the commit');
    await expect(idempotency.run('key', () => increment())).resolves.toEqual({ committed: 1 });
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-14] completes a route’s run by a decorated method, and its response is what is replayed', async () => {
    const deposit = async (): Promise<unknown> => {
      const response = await fetch(`${await app.getUrl()}/accounts/7/deposits`, {
        method: 'POST',
        headers: { 'idempotency-key': 'key' },
      });
      return await response.json();
    };
    expect(await deposit()).toEqual({ balance: 1, greeting: 'thank you' });
    expect(await deposit()).toEqual({ balance: 1, greeting: 'thank you' });
    expect(await redis.client.get('account:{7}')).toBe('1');
  });
});
