import { Injectable, Scope, SetMetadata, type Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  AtomicCounter,
  AtomicRedisModule,
  ConfigurationError,
  Idempotent,
  OptimisticRetry,
  WithPermit,
} from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';

const Below = SetMetadata('below', 'kept');
const Above = SetMetadata('above', 'kept');

@Injectable()
class Base {
  greeting = 'hello';

  @Above
  @AtomicCounter({ key: 'calls' })
  @Below
  async greet(name: string, _times: number): Promise<string> {
    return `${this.greeting} ${name}`;
  }
}

@Injectable()
class Derived extends Base {
  override greeting = 'ahoy';
}

@Injectable({ scope: Scope.REQUEST })
class PerRequest extends Base {}

describe('method wrapping', () => {
  const redis = useRedis();

  const start = (providers: Type[], options: { keyPrefix?: string } = {}) =>
    Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({
          connection: { host: redis.server.host, port: redis.server.port, ...options },
          namespace: 'atomic:',
        }),
      ],
      providers,
    }).compile();

  it('[WRAP-1] keeps this, arguments, name, length and the metadata of decorators above and below', async () => {
    const app = await start([Base]);
    const service = app.get(Base);
    await expect(service.greet('Ada', 1)).resolves.toBe('hello Ada');
    expect(service.greet.name).toBe('greet');
    expect(service.greet.length).toBe(2);
    expect(Reflect.getMetadata('below', service.greet)).toBe('kept');
    expect(Reflect.getMetadata('above', service.greet)).toBe('kept');
    await app.close();
  });

  it('[WRAP-1] works in a subclass and in a request-scoped provider', async () => {
    const app = await start([Derived, PerRequest]);
    await expect(app.get(Derived).greet('Ada', 1)).resolves.toBe('ahoy Ada');
    const perRequest = await app.resolve(PerRequest);
    await expect(perRequest.greet('Bob', 1)).resolves.toBe('hello Bob');
    expect(await redis.client.get('calls')).toBe('2');
    await app.close();
  });

  it('[WRAP-1] gives two applications in one process each their own Redis', async () => {
    const [first, second] = await Promise.all([
      start([Base], { keyPrefix: 'one:' }),
      start([Base], { keyPrefix: 'two:' }),
    ]);
    await first.get(Base).greet('Ada', 1);
    await first.get(Base).greet('Ada', 1);
    await second.get(Base).greet('Ada', 1);
    expect(await redis.client.mget('one:calls', 'two:calls')).toEqual(['2', '1']);
    await Promise.all([first.close(), second.close()]);
  });

  it('[WRAP-2] refuses to boot when the module is not imported', async () => {
    await expect(Test.createTestingModule({ providers: [Base] }).compile()).rejects.toThrow(/Base/);
  });

  it('[WRAP-2] tells how to mend an object that was made with new', () => {
    expect(() => new Base().greet('Ada', 1)).toThrow(/Base\.greet.*Inject Base instead/);
  });

  it('[WRAP-3] refuses anything but a method, and names class and member', () => {
    const decorator = AtomicCounter({ key: 'k' }) as unknown as PropertyDecorator & MethodDecorator;
    expect(() => {
      class Shop {
        @decorator
        stock = 1;
      }
      return Shop;
    }).toThrow(/@AtomicCounter\(\) goes on a method of a class, but Shop\.stock is undefined/);
    expect(() => {
      class Shop {
        @decorator
        get stock(): number {
          return 1;
        }
      }
      return Shop;
    }).toThrow(ConfigurationError);
    expect(() => {
      class Shop {
        @decorator
        static stock(): void {}
      }
      return Shop;
    }).toThrow(/a static member/);
  });

  it('[WRAP-4] accepts the decorators in their one order', async () => {
    @Injectable()
    class Shop {
      @Idempotent({ operation: 'shop.order', key: (id: string) => id })
      @WithPermit({ name: (id: string) => `permit:${id}` })
      @AtomicCounter({ key: (id: string) => `stock:${id}` })
      @OptimisticRetry({ watch: (id: string) => `order:${id}` })
      async order(id: string): Promise<string> {
        return `ordered ${id}`;
      }
    }
    const app = await start([Shop]);
    const shop = app.get(Shop);
    await expect(shop.order('7')).resolves.toBe('ordered 7');
    await expect(shop.order('7')).resolves.toBe('ordered 7');
    expect(await redis.client.get('stock:7')).toBe('1');
    await app.close();
  });

  it('[WRAP-4] refuses any other order, and a repeated decorator', () => {
    const wrong = (...decorators: MethodDecorator[]) => {
      class Shop {
        async order(): Promise<void> {}
      }
      const descriptor = Object.getOwnPropertyDescriptor(Shop.prototype, 'order')!;
      for (const decorate of decorators.toReversed()) decorate(Shop.prototype, 'order', descriptor);
    };
    const idempotent = () => Idempotent({ key: () => 'k' }) as unknown as MethodDecorator;
    const counter = () => AtomicCounter({ key: 'k' }) as unknown as MethodDecorator;
    const permit = () => WithPermit({ name: 'p' }) as unknown as MethodDecorator;
    const retry = () => OptimisticRetry({ watch: 'k' }) as unknown as MethodDecorator;
    expect(() => wrong(retry(), idempotent())).toThrow(
      /Shop\.order: @Idempotent\(\) must stand above @OptimisticRetry\(\)/,
    );
    expect(() => wrong(counter(), idempotent())).toThrow(ConfigurationError);
    expect(() => wrong(retry(), counter())).toThrow(ConfigurationError);
    expect(() => wrong(idempotent(), Above, retry(), counter())).toThrow(ConfigurationError);
    expect(() => wrong(permit(), idempotent())).toThrow(ConfigurationError);
    expect(() => wrong(counter(), permit())).toThrow(ConfigurationError);
    expect(() => wrong(retry(), retry())).toThrow(/twice/);
    expect(() => wrong(idempotent(), permit(), counter(), retry())).not.toThrow();
  });
});
