import { Body, Controller, Injectable, Param, Post, Scope, type INestApplication } from '@nestjs/common';
import { ContextIdFactory } from '@nestjs/core';
import {
  AtomicCounter,
  ConfigurationError,
  CounterValue,
  InjectTransaction,
  OptimisticRetry,
  Transaction,
  type CounterResult,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

const stockOf = (sku: string): string => `stock:{${sku}}`;

@Injectable()
class Inventory {
  @AtomicCounter({ key: stockOf, by: -3, min: 0 })
  async take(sku: string, @CounterValue() count?: CounterResult<number>) {
    return { sku, count };
  }

  @AtomicCounter({ key: stockOf, by: -3, min: 0, onLimit: 'clamp', onError: 'keep' })
  async takeWhatThereIs(_sku: string, @CounterValue() count?: CounterResult<number>) {
    return count;
  }

  @AtomicCounter({ key: stockOf, by: 2n })
  async add(_sku: string, @CounterValue() count?: CounterResult<bigint>) {
    return count;
  }

  /** Calls another counted method, and itself. */
  @AtomicCounter({ key: stockOf, by: 1 })
  async nest(sku: string, depth: number, @CounterValue() count?: CounterResult<number>): Promise<number[]> {
    const inner = depth > 0 ? await this.nest(sku, depth - 1) : [(await this.take('other')).count!.value];
    return [count!.value, ...inner];
  }

  @AtomicCounter({ key: 'outer' })
  @AtomicCounter({ key: 'inner', by: 10 })
  async twice(@CounterValue() count?: CounterResult<number>) {
    return count?.value;
  }
}

@Injectable()
class SpecialInventory extends Inventory {
  @AtomicCounter({ key: stockOf, by: 100 })
  override async take(sku: string, @CounterValue() count?: CounterResult<number>) {
    return { sku, count };
  }
}

@Injectable({ scope: Scope.REQUEST })
class RequestInventory extends Inventory {}

@Injectable()
class Retried {
  seen: number[] = [];
  constructor(@InjectTransaction() private readonly tx: Transaction) {}

  @AtomicCounter({ key: 'n' })
  @OptimisticRetry({ watch: 'other' })
  async count(disturb: () => Promise<unknown>, @CounterValue() count?: CounterResult<number>) {
    this.seen.push(count!.value);
    await this.tx.read.get('other');
    if (this.seen.length === 1) await disturb();
    this.tx.write.set('other', count!.value);
  }
}

@Controller('stock')
class InventoryController {
  @Post(':sku/take')
  @AtomicCounter({ key: stockOf, by: (_sku: string, body: { n: number }) => -body.n, min: 0 })
  async take(
    @Param('sku') sku: string,
    @Body() body: { n: number },
    @CounterValue() count?: CounterResult<number>,
  ) {
    return { sku, asked: body.n, left: count?.value };
  }

  @Post(':sku/first')
  @AtomicCounter({ key: (_count: unknown, sku: string) => stockOf(sku) })
  async first(@CounterValue() count: CounterResult<number>, @Param('sku') sku: string) {
    return { sku, now: count.value };
  }
}

describe('@CounterValue', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: INestApplication;
  let inventory: Inventory;

  beforeAll(async () => {
    app = await boot.http(
      { connection: redis.server.url },
      {
        providers: [Inventory, SpecialInventory, RequestInventory, Retried],
        controllers: [InventoryController],
      },
    );
    inventory = app.get(Inventory);
  });

  beforeEach(() => redis.client.mset({ 'stock:{a}': 10, 'stock:{other}': 10 }));

  it('[CT-12] gives the method the value, the applied amount, and whether it was limited', async () => {
    expect(await inventory.take('a')).toEqual({ sku: 'a', count: { value: 7, applied: -3, limited: false } });
    await redis.client.set('stock:{a}', 2);
    expect(await inventory.takeWhatThereIs('a')).toEqual({ value: 0, applied: -2, limited: true });
    expect(await inventory.add('a')).toEqual({ value: 2n, applied: 2n, limited: false });
  });

  it('[CT-12] gives each of several concurrent calls its own value', async () => {
    await redis.client.set('stock:{a}', 300);
    const taken = await Promise.all(Array.from({ length: 100 }, () => inventory.take('a')));
    const values = taken.map(({ count }) => count!.value).toSorted((a, b) => a - b);
    expect(values).toEqual(Array.from({ length: 100 }, (_, i) => 3 * i));
  });

  it('[CT-12] overrides an argument that the caller passes', async () => {
    const { count } = await inventory.take('a', { value: 1_000, applied: 1, limited: false });
    expect(count!.value).toBe(7);
  });

  it('[CT-12] gives each nested call its own value', async () => {
    expect(await inventory.nest('a', 2)).toEqual([11, 12, 13, 7]);
  });

  it('[CT-12] comes from the innermost of several counters', async () => {
    expect(await inventory.twice()).toBe(10);
    expect(await inventory.twice()).toBe(20);
    expect(await redis.client.get('outer')).toBe('2');
  });

  it('[CT-12] works in a subclass that overrides the method, and in request scope', async () => {
    expect((await app.get(SpecialInventory).take('a')).count).toMatchObject({ value: 110 });
    const scoped = await app.resolve(RequestInventory, ContextIdFactory.create());
    expect((await scoped.take('a')).count).toMatchObject({ value: 107 });
  });

  it('[CT-12] is the same in each attempt of a transaction below the counter', async () => {
    const retried = app.get(Retried);
    await retried.count(() => redis.client.set('other', 'changed'));
    expect(retried.seen).toEqual([1, 1]);
    expect(await redis.client.get('n')).toBe('1');
  });

  it('[CT-12] works on routes, before and after other parameters', async () => {
    const post = async (path: string, body: object): Promise<unknown> => {
      const response = await fetch(`${await app.getUrl()}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      return await response.json();
    };
    expect(await post('/stock/a/take', { n: 4 })).toEqual({ sku: 'a', asked: 4, left: 6 });
    expect(await post('/stock/a/first', {})).toEqual({ sku: 'a', now: 7 });
  });

  it('[CT-12] is refused on anything but a method’s parameter', () => {
    const onConstructor = (): unknown => {
      class Wrong {
        constructor(@CounterValue() readonly count: unknown) {}
      }
      return Wrong;
    };
    const onStatic = (): unknown => {
      class Wrong {
        static method(@CounterValue() _count: unknown): void {}
      }
      return Wrong;
    };
    expect(onConstructor).toThrow(ConfigurationError);
    expect(onStatic).toThrow(ConfigurationError);
  });
});
