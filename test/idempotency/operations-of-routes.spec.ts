import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Controller, Module, Post } from '@nestjs/common';
import { RouterModule } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Idempotent, IdempotencyService } from 'nestjs-atomic-redis';
import { useApp, withPrefixAndVersions } from '../support/app.js';
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

describe('the operation name of a route', () => {
  const boot = useApp();
  const redis = useRedis();

  it.each([
    ['Express', () => new ExpressAdapter()],
    ['Fastify', () => new FastifyAdapter()],
    ['an adapter whose requests have no route', () => new BareAdapter()],
  ])(
    '[ID-21] is the same on %s: the first path, the module’s path and the versions',
    async (title, adapter) => {
      const before = made;
      const app = await boot.http(
        { connection: redis.server.url, namespace: 'shop:' },
        {
          imports: [OrdersModule, RouterModule.register([{ path: 'shop', module: OrdersModule }])],
          adapter: adapter(),
          configure: withPrefixAndVersions,
        },
      );

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
    },
  );
});
