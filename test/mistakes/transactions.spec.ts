import { Redis } from 'ioredis';
import { TransactionConflictError, type TransactionService } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { useAtomicRedis } from './app.js';
import { interrupted, meddledWith, useMistake } from './mistakes.js';

const redis = useRedis();
/** The application's own client, which everybody uses and which the library is given. */
let shared: Redis;
const atomic = useAtomicRedis(() => ({ connection: shared, namespace: 'atomic:' }));

beforeAll(() => void (shared = new Redis(redis.server.url)));
afterAll(() => shared.disconnect());

/** Something of another process between the work and EXEC of the first attempt. */
const meddledOnce = (meddle: () => unknown): TransactionService =>
  meddledWith(atomic.services.transactions, (attempt) => attempt === 1 && meddle());

describe('[DOC-2] GET, then SET', () => {
  const mistake = useMistake<
    { withdraw(redis: Redis, key: string, amount: number): Promise<void> },
    { withdraw(transactions: TransactionService, key: string, amount: number): Promise<void> }
  >('GET, then SET');

  beforeEach(() => redis.client.set('balance', 100));

  it('loses one of two withdrawals', async () => {
    // On one connection both GETs are sent before the first answer can arrive.
    await Promise.all([1, 2].map(() => mistake.wrong.withdraw(shared, 'balance', 80)));
    expect(await redis.client.get('balance')).toBe('20');
  });

  it('refuses the second when replaced by a transaction', async () => {
    const withdrawals = [1, 2].map(() => mistake.right.withdraw(atomic.services.transactions, 'balance', 80));
    const settled = await Promise.allSettled(withdrawals);
    expect(settled.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(await redis.client.get('balance')).toBe('20');
  });

  it('refuses it even after another process’s write when replaced by a transaction', async () => {
    const meddled = meddledOnce(() => redis.client.decrby('balance', 80));
    await expect(mistake.right.withdraw(meddled, 'balance', 80)).rejects.toThrow('insufficient funds');
    expect(await redis.client.get('balance')).toBe('20');
  });
});

describe('[DOC-2] EXEC’s null, ignored', () => {
  interface Renaming<Service> {
    rename(service: Service, key: string, name: string): Promise<{ renamed: boolean }>;
  }
  const mistake = useMistake<Renaming<Redis>, Renaming<TransactionService>>("EXEC's null ignored");
  const changeMail = () => redis.client.set('user', '{"name":"ada","mail":"new"}');

  beforeEach(() => redis.client.set('user', '{"name":"ada","mail":"old"}'));

  it('reports a success that never happened', async () => {
    const own = shared.duplicate();
    try {
      const answer = await mistake.wrong.rename(interrupted(own, 'get', changeMail), 'user', 'grace');
      expect(answer).toEqual({ renamed: true });
      expect(await redis.client.get('user')).toBe('{"name":"ada","mail":"new"}');
    } finally {
      own.disconnect();
    }
  });

  it('retries and keeps both changes when replaced by a transaction', async () => {
    await mistake.right.rename(meddledOnce(changeMail), 'user', 'grace');
    expect(await redis.client.get('user')).toBe('{"name":"grace","mail":"new"}');
  });
});

describe('[DOC-2] WATCH on a shared connection', () => {
  interface Adding<Service> {
    add(service: Service, key: string, amount: number): Promise<number>;
  }
  const mistake = useMistake<Adding<Redis>, Adding<TransactionService>>('WATCH on a shared connection');
  /** Another request of this process on the shared client, then another process. */
  const meddle = async (): Promise<void> => {
    await shared.multi().incr('unrelated').exec();
    await redis.client.incrby('value', 100);
  };

  it('commits over another client’s write', async () => {
    expect(await mistake.wrong.add(interrupted(shared, 'get', meddle), 'value', 1)).toBe(1);
    expect(await redis.client.get('value')).toBe('1');
  });

  it('loses nothing when replaced by a transaction beside the same client', async () => {
    expect(await mistake.right.add(meddledOnce(meddle), 'value', 1)).toBe(101);
    expect(await redis.client.get('value')).toBe('101');
  });
});

describe('[DOC-2] watching too much', () => {
  interface Buying {
    buy(transactions: TransactionService, sku: string): Promise<void>;
  }
  const mistake = useMistake<Buying, Buying>('Watching too much');
  let attempts = 0;
  /** A visitor in each attempt. */
  const visited = (): TransactionService => {
    attempts = 0;
    return meddledWith(atomic.services.transactions, (attempt) => {
      attempts = attempt;
      return redis.client.incr('{tea}:views');
    });
  };

  beforeEach(() => redis.client.set('{tea}:stock', 3));

  it('conflicts with callers that only read', async () => {
    await expect(mistake.wrong.buy(visited(), 'tea')).rejects.toThrow(TransactionConflictError);
    expect(attempts).toBeGreaterThanOrEqual(5);
    expect(await redis.client.mget('{tea}:stock', '{tea}:views')).toEqual(['3', String(attempts)]);
  });

  it('conflicts with none of them when only the stock is watched', async () => {
    await mistake.right.buy(visited(), 'tea');
    expect(attempts).toBeLessThan(5);
    expect(await redis.client.mget('{tea}:stock', '{tea}:views')).toEqual(['2', String(attempts + 1)]);
  });
});

describe('[DOC-2] side effects inside a retried body', () => {
  interface Ordering {
    order(
      transactions: TransactionService,
      sku: string,
      mail: (text: string) => Promise<void>,
    ): Promise<void>;
  }
  const mistake = useMistake<Ordering, Ordering>('Side effects inside a retried body');
  const mails: string[] = [];
  const mail = async (text: string) => void mails.push(text);
  const another = () => redis.client.decr('tea');

  beforeEach(() => mails.splice(0));

  it('tell two customers that they got the last piece', async () => {
    await redis.client.set('tea', 1);
    const order = mistake.wrong.order(meddledOnce(another), 'tea', mail);
    await expect(order).rejects.toThrow('sold out');
    expect(mails).toEqual(['You have bought tea']);
  });

  it('happen twice for a retried caller', async () => {
    await redis.client.set('tea', 2);
    await mistake.wrong.order(meddledOnce(another), 'tea', mail);
    expect(mails).toHaveLength(2);
  });

  it('happen once, for the winner only, after the transaction', async () => {
    await redis.client.set('tea', 2);
    await mistake.right.order(meddledOnce(another), 'tea', mail);
    expect(mails).toHaveLength(1);
    await expect(mistake.right.order(atomic.services.transactions, 'tea', mail)).rejects.toThrow('sold out');
    expect(mails).toHaveLength(1);
  });
});
