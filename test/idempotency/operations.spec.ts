import type { AddressInfo } from 'node:net';
import {
  Controller,
  Injectable,
  mixin,
  Module,
  Post,
  VersioningType,
  type INestApplication,
  type ModuleMetadata,
  type Type,
} from '@nestjs/common';
import { RouterModule } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';

/** Controllers of one name and path. */
function orders(answer: string, version?: string): Type {
  @Controller({ path: 'orders', version })
  class OrdersController {
    @Post()
    @Idempotent()
    create(): string {
      return answer;
    }
  }
  return OrdersController;
}

let shipped = 0;

function shipper(): Type<{ ship(id: string): Promise<number> }> {
  @Injectable()
  class Shipper {
    @Idempotent({ key: (id: string) => id })
    async ship(_id: string): Promise<number> {
      return ++shipped;
    }
  }
  return mixin(Shipper);
}

@Module({ controllers: [orders('admin')] })
class AdminModule {}

@Module({ controllers: [orders('shop')] })
class ShopModule {}

describe('which methods are one operation', () => {
  const redis = useRedis();
  const apps: INestApplication[] = [];

  const start = async ({ imports = [], ...parts }: ModuleMetadata): Promise<INestApplication> => {
    const module = await Test.createTestingModule({
      ...parts,
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url }), ...imports],
    }).compile();
    const app = module.createNestApplication();
    apps.push(app);
    app.enableVersioning({ type: VersioningType.URI });
    await app.listen(0, '127.0.0.1');
    return app;
  };

  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  it.each<[string, ModuleMetadata, [string, string], [string, string]]>([
    [
      'in two versions',
      { controllers: [orders('1', '1'), orders('2', '2')] },
      ['v1/orders', 'v2/orders'],
      ['1', '2'],
    ],
    [
      'in two modules with paths of their own',
      {
        imports: [
          AdminModule,
          ShopModule,
          RouterModule.register([
            { path: 'admin', module: AdminModule },
            { path: 'shop', module: ShopModule },
          ]),
        ],
      },
      ['admin/orders', 'shop/orders'],
      ['admin', 'shop'],
    ],
  ])('[ID-5] [ID-13] tells controllers of one name and path apart %s', async (_, parts, paths, answers) => {
    const app = await start(parts);
    const { port } = (app.getHttpServer() as { address(): AddressInfo }).address();
    const sent = paths.map((path) =>
      fetch(`http://127.0.0.1:${port}/${path}`, { method: 'POST', headers: { 'idempotency-key': 'k' } }),
    );
    const texts = (await Promise.all(sent)).map((response) => response.text());
    expect(await Promise.all(texts)).toEqual(answers);
  });

  it('[ID-1] takes a mixin’s method, whose class has another name in each process, for one', async () => {
    shipped = 0;
    for (const Shipper of [shipper(), shipper()]) {
      const app = await start({ providers: [Shipper] });
      expect(await app.get(Shipper).ship('a')).toBe(1);
    }
    expect(shipped).toBe(1);
  });
});
