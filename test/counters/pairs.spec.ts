import { Controller, Headers, Injectable, Post, type INestApplication } from '@nestjs/common';
import {
  AtomicCounter,
  ConfigurationError,
  TransactionConflictError,
  CounterLimitError,
  CounterService,
  Idempotent,
  InjectTransaction,
  OptimisticRetry,
  Transaction,
  IllegalTransactionStateError,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

/** Called by a method once for each attempt, with its number. */
type Disturb = (attempt: number) => unknown;

const watch = ['order'];

@Injectable()
class Shop {
  attempts = 0;
  constructor(@InjectTransaction() private readonly tx: Transaction) {}

  @AtomicCounter({ key: 'stock', by: -1, min: 0 })
  @OptimisticRetry({ watch, maxAttempts: 3 })
  async countThenOrder(disturb: Disturb): Promise<number> {
    return await this.order(disturb);
  }

  @OptimisticRetry({ watch, maxAttempts: 3 })
  async orderAndCount(disturb: Disturb): Promise<number> {
    return await this.count(disturb);
  }

  @OptimisticRetry({ watch, maxAttempts: 3 })
  async orderAndCountOutside(disturb: Disturb): Promise<number> {
    return await this.countOutside(disturb);
  }

  @AtomicCounter({ key: 'stock', by: -1, min: 0 })
  async count(disturb: Disturb): Promise<number> {
    return await this.order(disturb);
  }

  @AtomicCounter({ key: 'stock', by: -1, min: 0, propagation: 'outside' })
  async countOutside(disturb: Disturb): Promise<number> {
    return await this.order(disturb);
  }

  private async order(disturb: Disturb): Promise<number> {
    const orders = Number((await this.tx.read.get('order')) ?? '0') + 1;
    await disturb(++this.attempts);
    this.tx.write.set('order', orders);
    return orders;
  }
}

@Controller('limited')
class Limited {
  runs = 0;

  @Post()
  @Idempotent()
  @AtomicCounter({ key: 'used', max: 2 })
  async call(@Headers('idempotency-key') key: string) {
    return Promise.resolve({ key, run: ++this.runs });
  }

  @Post('failing')
  @Idempotent()
  @AtomicCounter({ key: 'used', max: 2 })
  fail(): Promise<never> {
    this.runs++;
    return Promise.reject(new Error('on purpose'));
  }

  @Idempotent({ operation: 'limited.by-key', key: (key: string) => key })
  @AtomicCounter({ key: 'used', max: 2 })
  async byKey(key: string) {
    return await Promise.resolve({ key, run: ++this.runs });
  }
}

describe('features on one method', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: INestApplication;
  let shop: Shop;
  let limited: Limited;
  let counters: CounterService;

  beforeEach(async () => {
    app = await boot.http({ connection: redis.server.url }, { controllers: [Limited], providers: [Shop] });
    [shop, limited, counters] = [app.get(Shop), app.get(Limited), app.get(CounterService)];
    await redis.client.set('stock', 5);
  });

  const stock = () => counters.get('stock');
  const order = () => redis.client.get('order');
  /** Another client changes what the transaction watches, at the first attempts. */
  const conflicts =
    (count: number): Disturb =>
    async (attempt) => {
      if (attempt <= count) await redis.client.set('order', attempt * 10);
    };

  describe('a counter above a transaction', () => {
    it('[CT-17] counts once, however often the transaction is tried', async () => {
      expect(await shop.countThenOrder(conflicts(2))).toBe(21);
      expect(shop.attempts).toBe(3);
      expect([await stock(), await order()]).toEqual([4, '21']);
    });

    it('[CT-17] undoes its count when the transaction gives up or its body fails', async () => {
      await expect(shop.countThenOrder(conflicts(9))).rejects.toBeInstanceOf(TransactionConflictError);
      expect([await stock(), await order()]).toEqual([5, '30']);
      const failure = new Error('on purpose');
      const fail = (): never => {
        throw failure;
      };
      await expect(shop.countThenOrder(fail)).rejects.toBe(failure);
      expect([await stock(), await order()]).toEqual([5, '30']);
    });

    it('[CT-17] does not run the transaction when it is at its bound', async () => {
      await redis.client.set('stock', 0);
      await expect(shop.countThenOrder(conflicts(0))).rejects.toBeInstanceOf(CounterLimitError);
      expect([shop.attempts, await stock(), await order()]).toEqual([0, 0, null]);
    });
  });

  describe('a counter below a transaction', () => {
    it('[CT-17] is refused on the same method when the class is defined: the counter must stand above', () => {
      const declare = (): unknown => {
        class Wrong {
          @OptimisticRetry({ watch })
          @AtomicCounter({ key: 'stock' })
          async order(): Promise<void> {}
        }
        return Wrong;
      };
      expect(declare).toThrow(ConfigurationError);
    });

    it('[CT-17] is refused before anything is counted', async () => {
      await expect(shop.orderAndCount(conflicts(0))).rejects.toBeInstanceOf(IllegalTransactionStateError);
      expect([shop.attempts, await stock(), await order()]).toEqual([0, 5, null]);
    });

    it('[CT-17] counts once for each attempt with propagation outside', async () => {
      expect(await shop.orderAndCountOutside(conflicts(2))).toBe(21);
      expect([await stock(), await order()]).toEqual([2, '21']);
      const fail = (): never => {
        throw new Error('on purpose');
      };
      // The attempt that failed took its own back; those that were repeated had succeeded.
      await expect(shop.orderAndCountOutside(fail)).rejects.toThrow('on purpose');
      expect([await stock(), await order()]).toEqual([2, '21']);
    });
  });

  describe('an idempotent call with a limit', () => {
    const post = async (key: string, path = 'limited') => {
      const answer = await fetch(`${await app.getUrl()}/${path}`, {
        method: 'POST',
        headers: { 'idempotency-key': key },
      });
      return { status: answer.status, body: (await answer.json()) as { run?: number; code?: string } };
    };

    it('[CT-18] counts once for each key on a route, and a replay counts nothing', async () => {
      for (const key of ['a', 'a', 'b', 'a', 'b'])
        expect(await post(key)).toMatchObject({ status: 201, body: { run: key === 'a' ? 1 : 2 } });
      expect([limited.runs, await counters.get('used')]).toEqual([2, 2]);
    });

    it('[CT-18] releases the key of a refused call, which can run later when there is room', async () => {
      await redis.client.set('used', 2);
      expect(await post('c')).toMatchObject({ status: 409, body: { code: 'COUNTER_LIMIT' } });
      expect(await post('c')).toMatchObject({ status: 409, body: { code: 'COUNTER_LIMIT' } });
      await expect(limited.byKey('c')).rejects.toBeInstanceOf(CounterLimitError);
      expect(limited.runs).toBe(0);
      await counters.reset('used');
      expect(await post('c')).toMatchObject({ status: 201, body: { run: 1 } });
      expect(await limited.byKey('c')).toEqual({ key: 'c', run: 2 });
      expect(await limited.byKey('c')).toEqual({ key: 'c', run: 2 });
      expect(await counters.get('used')).toBe(2);
    });

    it('[CT-18] counts nothing for a failed call, and counts when that is repeated', async () => {
      expect((await post('d', 'limited/failing')).status).toBe(500);
      expect(await counters.get('used')).toBe(0);
      expect((await post('d', 'limited/failing')).status).toBe(500);
      expect([limited.runs, await counters.get('used')]).toEqual([2, 0]);
    });

    it('[CT-18] counts once for simultaneous calls with one key', async () => {
      const answers = await Promise.all(Array.from({ length: 8 }, () => post('e')));
      expect(answers.filter(({ status }) => status === 201).length).toBeGreaterThanOrEqual(1);
      expect([limited.runs, await counters.get('used')]).toEqual([1, 1]);
    });
  });
});
