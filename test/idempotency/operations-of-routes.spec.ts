import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Controller, Module, Post, VersioningType } from '@nestjs/common';
import { RouterModule } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule, Idempotent, IdempotencyService } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';

let made = 0;

@Controller({ path: ['orders', 'bestellungen'], version: ['1', '2'] })
class OrdersController {
  @Post(['new', 'neu'])
  @Idempotent()
  create(): { id: number } {
    return { id: ++made };
  }
}

@Module({ controllers: [OrdersController] })
class OrdersModule {}

/**
 * A platform of a name of its own, whose requests say nothing of the route that was found for them.
 */
class BareAdapter extends ExpressAdapter {
  constructor() {
    super();
    this.use((request: IncomingMessage, _response: ServerResponse, next: () => void) => {
      Object.defineProperty(request, 'route', { get: () => undefined, set() {} });
      next();
    });
  }

  override getType(): string {
    return 'bare';
  }

  override initHttpServer(): void {
    this.httpServer = createServer(
      this.getInstance<(request: IncomingMessage, response: ServerResponse) => void>(),
    );
  }
}

describe('what names the operation of a route', () => {
  const redis = useRedis();

  it.each([
    ['Express', () => new ExpressAdapter()],
    ['Fastify', () => new FastifyAdapter()],
    ['an adapter whose requests have no route', () => new BareAdapter()],
  ])(
    '[ID-21] is the same on %s: the first path, the module’s path and the versions',
    async (title, adapter) => {
      const before = made;
      const module = await Test.createTestingModule({
        imports: [
          AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'shop:' }),
          OrdersModule,
          RouterModule.register([{ path: 'shop', module: OrdersModule }]),
        ],
      }).compile();
      const app = module.createNestApplication(adapter());
      app.setGlobalPrefix('api');
      app.enableVersioning({ type: VersioningType.URI });
      await app.listen(0, '127.0.0.1');
      try {
        expect(app.get(IdempotencyService).operationOf(OrdersController, 'create')).toBe(
          'POST /shop/orders/new version 1,2',
        );
        const send = async (path: string): Promise<number> => {
          const response = await fetch(`${await app.getUrl()}/api/${path}`, {
            method: 'POST',
            headers: { 'idempotency-key': `on ${title}`.replaceAll(/[^a-z]/gi, '-') },
          });
          return response.status;
        };
        expect(await send('v1/shop/orders/new')).toBe(201);
        // One operation, so one record; another URL is another payload.
        for (const path of ['v2/shop/orders/new', 'v1/shop/bestellungen/neu'])
          expect(await send(path)).toBe(422);
        expect(await send('v1/shop/orders/new')).toBe(201);
        expect(made).toBe(before + 1);
      } finally {
        await app.close();
      }
    },
  );
});
