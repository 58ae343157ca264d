import { Controller, Inject, Injectable, Post, Scope, type INestApplication } from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { Test, type TestingModule } from '@nestjs/testing';
import { AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { send } from './http-app.js';

const TTL_MS = { orders: 60_000, mails: 600_000 };

@Injectable()
class Shipping {
  runs = 0;

  @Idempotent({ operation: 'orders.ship', key: (orderId: string) => orderId })
  async ship(_orderId: string): Promise<string> {
    return `run ${++this.runs}`;
  }
}

class FakeShipping extends Shipping {
  override async ship(_orderId: string): Promise<string> {
    return 'not shipped';
  }
}

class OtherShipping extends Shipping {
  @Idempotent({ operation: 'orders.ship', key: (orderId: string) => orderId })
  override async ship(orderId: string): Promise<string> {
    return `another way, ${await super.ship(orderId)}`;
  }
}

/** Lives as long as one request, and has options of two registrations. */
@Injectable({ scope: Scope.REQUEST })
class Handling {
  constructor(@Inject(REQUEST) private readonly request: { headers: Record<string, string> }) {}

  private runBy(): string {
    return `for ${this.request.headers['x-request']}`;
  }

  @Idempotent({ name: 'orders', operation: 'order', key: (id: string) => id })
  async order(_id: string): Promise<string> {
    return `ordered ${this.runBy()}`;
  }

  @Idempotent({ name: 'mails', operation: 'mail', key: (id: string) => id })
  async mail(_id: string): Promise<string> {
    return `mailed ${this.runBy()}`;
  }
}

@Controller()
class HandlingController {
  constructor(private readonly handling: Handling) {}

  @Post('handle')
  async handle(): Promise<unknown[]> {
    return [await this.handling.order('1'), await this.handling.mail('1')];
  }
}

describe('idempotent methods of providers', () => {
  const redis = useRedis();
  let module: TestingModule | INestApplication;

  afterEach(() => module.close());

  const testing = () =>
    Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
      providers: [Shipping],
    });

  it('[ID-18] run once in a plain service', async () => {
    module = await testing().compile();
    await module.init();
    const shipping = module.get(Shipping);
    expect([await shipping.ship('1'), await shipping.ship('1'), await shipping.ship('2')]).toEqual([
      'run 1',
      'run 1',
      'run 2',
    ]);
  });

  it.each<[string, object, string[], number]>([
    ['an object', { ship: async () => 'not shipped' }, ['not shipped', 'not shipped'], 0],
    ['a class that has its own method', new FakeShipping(), ['not shipped', 'not shipped'], 0],
  ])(
    '[ID-18] can be overridden in tests by %s, which is not protected',
    async (_, fake, results, records) => {
      module = await testing().overrideProvider(Shipping).useValue(fake).compile();
      await module.init();
      const shipping = module.get(Shipping);
      expect([await shipping.ship('1'), await shipping.ship('1')]).toEqual(results);
      expect(await redis.client.dbsize()).toBe(records);
    },
  );

  it('[ID-18] can be overridden by a class that is protected itself', async () => {
    module = await testing().overrideProvider(Shipping).useClass(OtherShipping).compile();
    await module.init();
    const shipping = module.get(Shipping);
    expect([await shipping.ship('1'), await shipping.ship('1')]).toEqual([
      'another way, run 1',
      'another way, run 1',
    ]);
  });

  it('[ID-18] run once over the instances of a request-scoped provider, each with the options of its registration', async () => {
    const testingModule = await Test.createTestingModule({
      imports: Object.entries(TTL_MS).map(([name, ttlMs]) =>
        AtomicRedisModule.forRoot({
          name,
          connection: redis.server.url,
          namespace: `${name}:`,
          idempotency: { ttlMs },
        }),
      ),
      controllers: [HandlingController],
      providers: [Handling],
    }).compile();
    const app = testingModule.createNestApplication();
    module = app;
    await app.listen(0, '127.0.0.1');
    const { port } = (app.getHttpServer() as { address(): { port: number } }).address();
    const handle = async (request: string): Promise<string> =>
      (await send({ app, port }, '/handle', { headers: { 'x-request': request } })).body;
    const first = await handle('a');
    expect(JSON.parse(first)).toEqual(['ordered for a', 'mailed for a']);
    expect(await handle('b')).toBe(first);
    for (const [name, ttlMs] of Object.entries(TTL_MS)) {
      const [record, ...others] = await redis.client.keys(`${name}:*`);
      expect(others).toEqual([]);
      const left = await redis.client.pttl(record!);
      expect(left).toBeGreaterThan(ttlMs / 2);
      expect(left).toBeLessThanOrEqual(ttlMs);
    }
  });
});
