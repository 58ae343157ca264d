import { Controller, Injectable, Param, Post, type INestApplication } from '@nestjs/common';
import {
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
  type TransactionOptions,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { completeScript } from '../../lib/idempotency/complete.script.js';
import { renewScript } from '../../lib/idempotency/renew.script.js';
import { useApp } from '../support/app.js';
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
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: INestApplication;
  let idempotency: IdempotencyService;
  let transactions: TransactionService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot.http(
      { connection: proxy.url, shutdownTimeoutMs: 500 },
      { controllers: [AccountsController], providers: [Accounts] },
    );
    idempotency = app.get(IdempotencyService);
    transactions = app.get(TransactionService);
  });

  afterEach(() => proxy.stop());

  /** A run whose transaction completes it. */
  const completing = (
    work: (tx: Transaction) => Promise<void>,
    options: TransactionOptions,
    leaseMs: number,
  ): Promise<void> =>
    idempotency.run('key', () => transactions.run(['k'], work, { completesRun: keep, ...options }), {
      leaseMs,
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

  it('[TX-14] returns the committed value to a retry when the run died before storing its result', async () => {
    proxy.cutBeforeServer(on(completeScript, Infinity));
    await idempotency.run('key', () => increment(keep), { timeoutMs: 1_500, leaseMs: 4_500 });
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
    // The one connection of the pool, which is lent again. A conflict would be an error.
    await transactions.run(['other'], (tx) => void tx.write.set('other', 'written'), { maxAttempts: 1 });
  });

  it.each([
    ['the value committed with it', keep, { committed: 1 }],
    ['an error that the answer is not available', () => undefined, IdempotencyResultUnavailableError],
  ])(
    '[TX-14] after kill -9 following EXEC, a retry gets %s, and the effects exist once',
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

  it('[TX-14] applies both or neither when EXEC is lost or never arrives', async () => {
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
    ['longer than the lease', 3_500],
  ])(
    '[TX-14] commits at its first attempt though its work takes %s: no renewal of its own aborts it',
    async (_, workMs) => {
      const renewed = proxy.delay({ ...on(renewScript, Infinity), replyMs: 0 });
      const work = async (tx: Transaction): Promise<void> => {
        await new Promise((resolve) => setTimeout(resolve, workMs));
        tx.write.incr('k');
      };
      await completing(work, { maxAttempts: 1, timeoutMs: 30_000 }, 3_000);
      expect(await redis.client.get('k')).toBe('1');
      expect(renewed.count).toBe(1);
    },
  );

  it.each([
    ['extends a lease that could end before the transaction', 3_000, true],
    ['leaves a lease unchanged that outlasts the transaction', 60_000, false],
  ])('[TX-14] %s, before WATCH', async (_, leaseMs, isExtended) => {
    const renewed = proxy.delay({ ...on(renewScript, Infinity), replyMs: 0 });
    let lasts = 0;
    const work = async (tx: Transaction): Promise<void> => {
      const [record] = await redis.client.keys('atomic:idempotency:*');
      lasts = await redis.client.pttl(record!);
      tx.write.incr('k');
    };
    await completing(work, { timeoutMs: 10_000 }, leaseMs);
    // Once for each attempt.
    expect(renewed.count > 0).toBe(isExtended);
    // Of the transaction’s ten seconds, less what the machine stalls; a lease has three.
    expect(lasts).toBeGreaterThan(5_000);
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

  it('[TX-14] never releases a committed key, even if the method fails afterwards', async () => {
    const failing = idempotency.run('key', async () => {
      await increment(keep);
      throw new Error('after the commit');
    });
    await expect(failing).rejects.toThrow('after the commit');
    await expect(idempotency.run('key', () => increment())).resolves.toEqual({ committed: 1 });
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-14] completes a route’s run by a decorated method, and the route’s response is replayed', async () => {
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
