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

/** Returns a decorated class that a second copy of the package made. */
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

describe('mistakes in the wiring of an application', () => {
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
  ])('[MOD-11] a decorated class that %s creates stops the boot', async (_, provider) => {
    const error = await boot({ providers: [provider] });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error!.message).toMatch(
      /Stock\.take has @AtomicCounter\(\), but useFactory or useValue makes its object.* write \{ provide: Stock, useClass: Stock \}/,
    );
    expect(error!.message).not.toContain('\n');
  });

  it('[MOD-11] a class that Nest creates starts, even under other tokens', async () => {
    const providers = [
      Stock,
      { provide: 'A', useClass: Stock },
      { provide: 'B', useExisting: Stock },
      { provide: 'C', useFactory: (stock: Stock) => stock, inject: [Stock] },
    ];
    expect(await boot({ providers })).toBeUndefined();
  });

  it('[MOD-11] two copies of the package stop the boot, and the error names both', async () => {
    const error = await boot({ providers: [ofAnotherCopy()] });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error!.message).toMatch(
      /two copies of nestjs-atomic-redis: OtherStock\.take has @AtomicCounter\(\).* npm ls nestjs-atomic-redis/,
    );
  });

  it('[MOD-11] a consumer of jobs that is created for each request stops the boot', async () => {
    const error = await boot({ providers: [Mails] });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error!.message).toMatch(/Mails\.send has @QueueConsumer\(\)/);
  });

  it('[MOD-4] an absent Redis stops the boot, and the error suggests lazyConnect', async () => {
    const error = await boot({}, { connection: 'redis://127.0.0.1:1', timeoutMs: 1_500 });
    expect(error).toBeInstanceOf(RedisUnavailableError);
    expect(error!.message).toMatch(/127\.0\.0\.1:1 .*ECONNREFUSED.* set lazyConnect: true/);
  });

  it('[MOD-11] a wrong password stops the boot, and the error names its place', async () => {
    await redis.client.call('ACL', 'SETUSER', 'app', 'reset', 'on', '>other', '~*', '&*', '+@all');
    const error = await boot({}, { connection: redis.server.url.replace('//', '//app:wrong@') });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error!.message).toMatch(/refused the user name or password: WRONGPASS.* Correct them: in the URL/);
    expect(error!.message).not.toContain('\n');
    await redis.client.call('ACL', 'DELUSER', 'app');
  });

  it('[MOD-11] an application without the module does not start, and the error names the module', async () => {
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
