import type { AddressInfo } from 'node:net';
import {
  Controller,
  Inject,
  Injectable,
  mixin,
  Module,
  Post,
  Scope,
  VersioningType,
  type DynamicModule,
  type ModuleMetadata,
  type Type,
} from '@nestjs/common';
import { ModuleRef, RouterModule } from '@nestjs/core';
import { IdempotencyService, Idempotent } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
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
    @Idempotent({ operation: 'orders.ship', key: (id: string) => id })
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

describe('the identity of operations', () => {
  const boot = useApp();
  const redis = useRedis();

  const start = (parts: ModuleMetadata) =>
    boot.http(
      { connection: redis.server.url },
      { ...parts, configure: (nest) => nest.enableVersioning({ type: VersioningType.URI }) },
    );

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

  it('[ID-21] survives another build that renames the controller', async () => {
    const build = (name: string, version: string): Type => {
      class Renamed {
        create(): string {
          return `${name} ran`;
        }
      }
      const method = Object.getOwnPropertyDescriptor(Renamed.prototype, 'create')!;
      Idempotent({ scope: () => 'ada' })(Renamed.prototype, 'create', method);
      Post([':id/deposits', ':id/payments'])(Renamed.prototype, 'create', method);
      Object.defineProperty(Renamed.prototype, 'create', method);
      Object.defineProperty(Renamed, 'name', { value: name });
      Controller({ path: ['accounts', 'konten'], version })(Renamed);
      return Renamed;
    };
    for (const name of ['AccountsController', 'e', 't']) {
      const type = build(name, '2');
      const app = await start({ controllers: [type] });
      const { port } = (app.getHttpServer() as { address(): AddressInfo }).address();
      const url = `http://127.0.0.1:${port}/v2/accounts/1/deposits`;
      const response = await fetch(url, { method: 'POST', headers: { 'idempotency-key': 'k' } });
      expect(await response.text()).toBe('AccountsController ran');
      const idempotency = app.get(IdempotencyService);
      const operation = idempotency.operationOf(type as Type<{ create(): string }>, 'create');
      expect(operation).toBe('POST /accounts/:id/deposits version 2');
      expect(await idempotency.inspect('k', { operation, scope: 'ada' })).toMatchObject({
        state: 'completed',
      });
    }
    expect(await redis.client.dbsize()).toBe(1);
  });

  it('[ID-21] keeps the methods of two classes apart that another build has renamed crosswise', async () => {
    const build = (name: string, operation: string): Type<{ run(id: string): Promise<string> }> => {
      class Renamed {
        async run(_id: string): Promise<string> {
          return operation;
        }
      }
      const method = Object.getOwnPropertyDescriptor(Renamed.prototype, 'run')!;
      Idempotent({ operation, key: (id: string) => id })(Renamed.prototype, 'run', method as never);
      Object.defineProperty(Renamed.prototype, 'run', method);
      Object.defineProperty(Renamed, 'name', { value: name });
      Injectable()(Renamed);
      return Renamed;
    };
    for (const [shipping, billing] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      const types = [build(shipping, 'orders.ship'), build(billing, 'orders.bill')] as const;
      const app = await start({ providers: [...types] });
      expect(await app.get(types[0]).run('7')).toBe('orders.ship');
      expect(await app.get(types[1]).run('7')).toBe('orders.bill');
    }
  });

  it('[ID-21] keeps the instances of one class apart that a callback names', async () => {
    const sent: string[] = [];
    @Injectable()
    class Notifier {
      constructor(@Inject('CHANNEL') readonly channel: string) {}

      @Idempotent({ operation: (self: Notifier) => `notify.${self.channel}`, key: (id: string) => id })
      async send(id: string): Promise<string> {
        sent.push(`${this.channel} ${id}`);
        return this.channel;
      }
    }
    @Module({})
    class NotifierModule {
      static register(channel: string): DynamicModule {
        return {
          module: NotifierModule,
          providers: [
            Notifier,
            { provide: 'CHANNEL', useValue: channel },
            { provide: channel, useExisting: Notifier },
          ],
        };
      }
    }
    const app = await start({ imports: [NotifierModule.register('email'), NotifierModule.register('sms')] });
    for (const channel of ['email', 'sms', 'email'])
      expect(await app.get<Notifier>(channel, { strict: false }).send('7')).toBe(channel);
    expect(sent).toEqual(['email 7', 'sms 7']);
    expect(() => app.get(IdempotencyService).operationOf(Notifier, 'send')).toThrow(/one for all instances/);
  });

  it('[ID-21] keeps no name that a callback makes for each request', async () => {
    let made = 0;
    @Injectable({ scope: Scope.TRANSIENT })
    class Tenants {
      readonly name = `tenant ${++made}`;

      @Idempotent({ operation: (self: Tenants) => self.name, key: () => 'k' })
      async run(): Promise<string> {
        return this.name;
      }
    }
    const app = await start({ providers: [Tenants] });
    const { operations } = app.get(IdempotencyService);
    const names = new Set<string>();
    for (let i = 0; i < 50; i++) names.add(await (await app.resolve(Tenants)).run());
    expect(names.size).toBe(50);
    expect((operations as unknown as { owners: Map<string, unknown> }).owners.size).toBe(0);
  });

  it('[ID-21] refuses a class that Nest creates later with a taken name, or with none', async () => {
    @Injectable()
    class Late {
      @Idempotent({ key: () => 'k' })
      async run(): Promise<void> {}
    }
    const app = await start({ providers: [shipper()] });
    await expect((await app.get(ModuleRef).create(shipper())).ship('a')).rejects.toThrow(
      /both the idempotent operation "orders\.ship"/,
    );
    await expect((await app.get(ModuleRef).create(Late)).run()).rejects.toThrow(
      /@Idempotent\(\{ operation: 'late\.run', … \}\)/,
    );
  });

  it('[ID-1] is the same for a mixin’s method, whose class has another name in each process', async () => {
    shipped = 0;
    for (const Shipper of [shipper(), shipper()]) {
      const app = await start({ providers: [Shipper] });
      expect(await app.get(Shipper).ship('a')).toBe(1);
    }
    expect(shipped).toBe(1);
  });
});
