import { Test, type TestingModule } from '@nestjs/testing';
import {
  AtomicRedisModule,
  OutcomeUnknownError,
  RedisUnavailableError,
  TransactionService,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useRedis } from '../support/redis.js';

describe('a transaction whose connection dies', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let transactions: TransactionService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection: proxy.url })],
    }).compile();
    app.useLogger(false);
    await app.init();
    transactions = app.get(TransactionService);
  });

  afterEach(async () => {
    await app.close();
    await proxy.stop();
  });

  it('[TX-10] never commits unwatched: cut between read and EXEC, it runs again on the fresh value', async () => {
    await redis.client.set('k', 'old');
    const seen: (string | null)[] = [];
    await transactions.run(['k'], async (tx) => {
      seen.push(await tx.read.get('k'));
      if (seen.length === 1) {
        await redis.client.set('k', 'written by another');
        proxy.disconnectAll();
        // Noticed by now, and swallowed by the work: the attempt must not be committed all the same.
        await expect(tx.read.get('k')).rejects.toThrow(RedisUnavailableError);
      }
      tx.write.set('k', `${seen.at(-1)}, then this`);
    });
    expect(seen).toEqual(['old', 'written by another']);
    expect(await redis.client.get('k')).toBe('written by another, then this');
  });

  it('[TX-10] says that the outcome is unknown when EXEC was not answered, and does not apply it again', async () => {
    await redis.client.set('k', 0);
    proxy.loseReplies({ match: ({ name }) => name === 'EXEC' });
    const running = transactions.run(['k'], async (tx) => {
      const value = Number(await tx.read.get('k'));
      tx.write.set('k', value + 1);
    });
    await expect(running).rejects.toThrow(OutcomeUnknownError);
    await expect(running).rejects.toMatchObject({ outcome: 'unknown', retryable: false });
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-10] never writes MULTI before WATCH was answered', async () => {
    const fault = proxy.cutBeforeServer({ match: ({ name }) => name === 'WATCH' });
    await transactions.run(['k'], (tx) => void tx.write.incr('k'));
    expect(fault.count).toBe(1);
    expect(await redis.client.get('k')).toBe('1');
  });
});
