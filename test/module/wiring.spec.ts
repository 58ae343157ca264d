import { Controller, Injectable, Module, Post, Scope } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  AtomicCounter,
  AtomicRedisModule,
  ConfigurationError,
  Idempotent,
  QueueConsumer,
  RedisUnavailableError,
  type QueueJob,
} from '../../lib/index.js';
import { useRedis } from '../support/redis.js';

@Injectable()
class Stock {
  @AtomicCounter({ key: (sku: string) => `stock:{${sku}}`, by: -1, min: 0 })
  async take(sku: string): Promise<string> {
    return sku;
  }
}

@Injectable({ scope: Scope.REQUEST })
class Mails {
  @QueueConsumer('mails')
  async send(_job: QueueJob<string>): Promise<void> {}
}

/** What another copy of the package has notes of its own on its methods. */
function ofAnotherCopy(): typeof Stock {
  let copy: typeof Stock | undefined;
  jest.isolateModules(() => {
    // oxlint-disable-next-line typescript/no-require-imports -- so that the package is loaded a second time
    const other = require('../../lib/index.js') as typeof import('../../lib/index.js');
    @Injectable()
    class OtherStock {
      @other.AtomicCounter({ key: (sku: string) => `stock:{${sku}}`, by: -1, min: 0 })
      async take(sku: string): Promise<string> {
        return sku;
      }
    }
    copy = OtherStock;
  });
  return copy!;
}

describe('mistakes in how an application is put together', () => {
  const redis = useRedis();

  const boot = async (parts: object, options: object = {}): Promise<Error | undefined> => {
    const module = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'shop:', ...options })],
      ...parts,
    }).compile();
    module.useLogger(false);
    try {
      await module.init();
      return undefined;
    } catch (error) {
      return error as Error;
    } finally {
      await module.close();
    }
  };

  it.each([
    ['useFactory', { provide: Stock, useFactory: () => new Stock() }],
    ['an async useFactory', { provide: 'STOCK', useFactory: async () => new Stock() }],
    ['useValue', { provide: Stock, useValue: new Stock() }],
  ])('[MOD-11] a decorated class that %s makes', async (_, provider) => {
    const error = await boot({ providers: [provider] });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error!.message).toMatch(
      /Stock\.take has @AtomicCounter\(\), but useFactory or useValue makes its object.* write \{ provide: Stock, useClass: Stock \}/,
    );
    expect(error!.message).not.toContain('\n');
  });

  it('[MOD-11] what Nest makes starts, also under other tokens', async () => {
    const providers = [
      Stock,
      { provide: 'A', useClass: Stock },
      { provide: 'B', useExisting: Stock },
      { provide: 'C', useFactory: (stock: Stock) => stock, inject: [Stock] },
    ];
    expect(await boot({ providers })).toBeUndefined();
  });

  it('[MOD-11] two copies of the package', async () => {
    const error = await boot({ providers: [ofAnotherCopy()] });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error!.message).toMatch(
      /two copies of nestjs-atomic-redis: OtherStock\.take has @AtomicCounter\(\).* npm ls nestjs-atomic-redis/,
    );
  });

  it('[MOD-11] a consumer of jobs that is made for each request', async () => {
    const error = await boot({ providers: [Mails] });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error!.message).toMatch(/Mails\.send has @QueueConsumer\(\)/);
  });

  it('[MOD-4] names lazyConnect where Redis is absent', async () => {
    const error = await boot({}, { connection: 'redis://127.0.0.1:1', timeoutMs: 300 });
    expect(error).toBeInstanceOf(RedisUnavailableError);
    expect(error!.message).toMatch(/127\.0\.0\.1:1 .*ECONNREFUSED.* set lazyConnect: true/);
  });

  it('[MOD-11] says where the password goes when it is wrong', async () => {
    await redis.client.call('ACL', 'SETUSER', 'app', 'reset', 'on', '>other', '~*', '&*', '+@all');
    const error = await boot({}, { connection: redis.server.url.replace('//', '//app:wrong@') });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error!.message).toMatch(/refused the user name or password: WRONGPASS.* Correct them: in the URL/);
    expect(error!.message).not.toContain('\n');
    await redis.client.call('ACL', 'DELUSER', 'app');
  });

  it('[MOD-11] an application without the module names it', async () => {
    @Controller()
    class OrdersController {
      @Post()
      @Idempotent()
      create(): string {
        return 'made';
      }
    }
    @Module({ controllers: [OrdersController] })
    class OrdersModule {}
    await expect(Test.createTestingModule({ imports: [OrdersModule] }).compile()).rejects.toThrow(
      /AtomicRedisModule\.forRoot\(…\), in a unit test AtomicRedisTestingModule/,
    );
  });
});
