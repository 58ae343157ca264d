import {
  Controller,
  Get,
  Inject,
  Injectable,
  Module,
  Param,
  Post,
  Scope,
  VersioningType,
  type INestApplication,
} from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { ClientProxyFactory, MessagePattern, Payload, Transport } from '@nestjs/microservices';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { Test } from '@nestjs/testing';
import {
  AtomicCounter,
  AtomicRedisModule,
  CounterService,
  Idempotent,
  InjectTransaction,
  OptimisticRetry,
  type Transaction,
} from 'nestjs-atomic-redis';
import { ApiIdempotent } from 'nestjs-atomic-redis/openapi';
import { firstValueFrom } from 'rxjs';
import { operationsOf } from '../openapi/document.js';
import { freePort } from '../support/free-port.js';
import { useRedis } from '../support/redis.js';
import { createApplication, PLATFORMS } from './platforms.js';

@Injectable()
class Seats {
  taken = 0;

  @AtomicCounter({ key: 'seats', max: 1 })
  async take(): Promise<number> {
    return ++this.taken;
  }
}

@Controller({ path: 'orders', version: '1' })
class OrdersController {
  runs = 0;

  constructor(private readonly seats: Seats) {}

  @Post()
  @ApiIdempotent()
  @Idempotent()
  create(): { order: number } {
    return { order: ++this.runs };
  }

  @Post('seats')
  async takeSeat(): Promise<{ seat: number }> {
    return { seat: await this.seats.take() };
  }

  @MessagePattern('create')
  @Idempotent({ operation: 'orders.onMessage', key: (message: { id: string }) => message.id })
  async onMessage(@Payload() _message: { id: string }): Promise<{ order: number }> {
    return { order: ++this.runs };
  }

  @MessagePattern('seat')
  async onSeat(): Promise<number> {
    return await this.seats.take();
  }
}

/** One for each request, as the one it is given says. */
@Controller({ path: 'balances', scope: Scope.REQUEST, version: '1' })
class BalancesController {
  constructor(
    @Inject(REQUEST) private readonly request: { headers: Record<string, string> },
    @InjectTransaction() private readonly tx: Transaction,
  ) {}

  @Post(':id')
  @Idempotent({ scope: () => 'everybody' })
  @OptimisticRetry({ watch: (id: string) => id })
  async add(@Param('id') id: string): Promise<{ balance: number; by: string | undefined }> {
    const balance = Number(await this.tx.read.get(id)) + 1;
    this.tx.write.set(id, balance);
    return { balance, by: this.request.headers['x-user'] };
  }

  @Get('user')
  user(): string | undefined {
    return this.request.headers['x-user'];
  }
}

describe('in a Nest application', () => {
  const redis = useRedis();
  let app: INestApplication | undefined;

  afterEach(async () => {
    await app?.close();
    app = undefined;
  });

  const testing = () => {
    @Module({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
      controllers: [OrdersController, BalancesController],
      providers: [Seats],
    })
    class AppModule {}
    return Test.createTestingModule({ imports: [AppModule] });
  };

  const post = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch((await app!.getUrl()) + path, { method: 'POST', headers });
    return {
      status: response.status,
      replayed: response.headers.get('idempotency-replayed'),
      body: (await response.json()) as Record<string, unknown>,
    };
  };

  describe.each(PLATFORMS)('on %s', (platform) => {
    it('[NEST-1] routes with a global prefix and versions run once, and are documented under their real paths', async () => {
      app = createApplication(await testing().compile(), platform);
      app.setGlobalPrefix('api');
      app.enableVersioning({ type: VersioningType.URI });
      const document = SwaggerModule.createDocument(app, new DocumentBuilder().build());
      await app.listen(0, '127.0.0.1');
      expect([...operationsOf(document).keys()]).toContain('POST /api/v1/orders');
      const key = { 'idempotency-key': 'k' };
      expect(await post('/api/v1/orders', key)).toEqual({ status: 201, replayed: null, body: { order: 1 } });
      expect(await post('/api/v1/orders', key)).toEqual({
        status: 201,
        replayed: 'true',
        body: { order: 1 },
      });
      expect(await post('/api/v1/orders')).toMatchObject({
        status: 400,
        body: { code: 'IDEMPOTENCY_KEY_MISSING' },
      });
    });

    it('[NEST-2] a request-scoped controller has its own request in each run, and runs once per key', async () => {
      app = createApplication(await testing().compile(), platform);
      await app.listen(0, '127.0.0.1');
      const add = (key: string, user: string) =>
        post('/balances/b', { 'idempotency-key': key, 'x-user': user });
      const users = Array.from({ length: 10 }, (_, i) => `user ${i}`);
      const first = await Promise.all(users.map((user) => add(user.replace(' ', '-'), user)));
      expect(first.map(({ body }) => body.by)).toEqual(users);
      expect(await add('user-3', 'another')).toEqual({ ...first[3], replayed: 'true' });
      expect(await redis.client.get('b')).toBe('10');
    });
  });

  it('[NEST-3] a hybrid application serves requests and messages with the same decorators', async () => {
    app = (await testing().compile()).createNestApplication();
    const port = await freePort();
    app.connectMicroservice(
      { transport: Transport.TCP, options: { host: '127.0.0.1', port } },
      { inheritAppConfig: true },
    );
    await app.startAllMicroservices();
    await app.listen(0, '127.0.0.1');
    const client = ClientProxyFactory.create({
      transport: Transport.TCP,
      options: { host: '127.0.0.1', port },
    });
    try {
      const send = (pattern: string, payload: unknown) =>
        firstValueFrom(client.send<unknown>(pattern, payload));
      expect(await send('create', { id: 'm' })).toEqual({ order: 1 });
      expect(await send('create', { id: 'm' })).toEqual({ order: 1 });
      const key = { 'idempotency-key': 'm' };
      expect((await post('/orders', key)).body).toEqual({ order: 2 });
      expect((await post('/orders', key)).body).toEqual({ order: 2 });

      expect((await post('/orders/seats')).body).toEqual({ seat: 1 });
      expect(await post('/orders/seats')).toMatchObject({ status: 409, body: { code: 'COUNTER_LIMIT' } });
      await expect(send('seat', {})).rejects.toMatchObject({ code: 'COUNTER_LIMIT', outcome: 'not-applied' });
    } finally {
      client.close();
    }
  });

  it('[NEST-4] overrideProvider() also replaces a service for the decorators', async () => {
    const calls: unknown[] = [];
    const fake = {
      run: (key: string, amount: number, work: (count: unknown) => unknown) => {
        calls.push([key, amount]);
        return work({ value: 7, applied: 1, limited: false });
      },
    };
    const module = await testing().overrideProvider(CounterService).useValue(fake).compile();
    app = module.createNestApplication();
    await app.init();
    expect(await app.get(Seats).take()).toBe(1);
    expect(await app.get(Seats).take()).toBe(2);
    expect(calls).toEqual([
      ['seats', 1],
      ['seats', 1],
    ]);
    expect(await redis.client.exists('seats')).toBe(0);
  });
});
