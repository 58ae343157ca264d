import 'reflect-metadata';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Body, Controller, Module, Post, type INestApplication } from '@nestjs/common';
import {
  AtomicRedisError,
  AtomicRedisModule,
  CounterService,
  Idempotent,
  TransactionService,
} from 'nestjs-atomic-redis';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { createApplication } from './adapter.js';
import { ApiIdempotent, optional, tryOptional } from './peers.js';
import { balanceKey, Shop, stockKey } from './shop.js';

const redisUrl = process.env['REDIS_URL'];
assert(redisUrl, 'REDIS_URL is set by the smoke test');

@Controller('orders')
class OrdersController {
  private orders = 0;

  @Post()
  @ApiIdempotent()
  @Idempotent()
  create(@Body() { sku }: { sku: string }) {
    return { id: ++this.orders, sku };
  }
}

async function main(): Promise<void> {
  const proxy = await startFaultProxy({ target: redisUrl! });

  @Module({
    imports: [AtomicRedisModule.forRoot({ connection: proxy.url, namespace: 'smoke:' }), ...optional.imports],
    controllers: [OrdersController, ...optional.controllers],
    providers: [Shop, ...optional.providers],
  })
  class AppModule {}

  const app = await createApplication(AppModule);
  await app.listen(0, '127.0.0.1');
  const url = await app.getUrl();
  await tryServices(app);
  await tryRoute(url);
  await tryOptional(app, url);

  const lost = proxy.loseReplies();
  assert.equal((await app.get(CounterService).add(randomUUID(), 1)).value, 1);
  assert.equal(lost.count, 1);
  console.log('A counter whose reply was lost counts once');

  // Nothing ends this process from here on: it must end by itself.
  await app.close();
  await proxy.stop();
}

async function tryServices(app: INestApplication): Promise<void> {
  const shop = app.get(Shop);
  const unique = randomUUID();

  await Promise.all(Array.from({ length: 20 }, () => shop.deposit(unique, 5)));
  const balance = await app
    .get(TransactionService)
    .run([balanceKey(unique)], async (tx) => Number(await tx.read.get(balanceKey(unique))));
  assert.equal(balance, 100);
  console.log('@OptimisticRetry: 20 concurrent deposits of 5 make 100');

  const job = { orderId: unique, address: 'Oslo' };
  const first = await shop.ship(job);
  assert.deepEqual(await shop.ship(job), first);
  assert.equal(shop.shipments, 1);
  console.log('@Idempotent: shipped once, the same answer twice');

  await app.get(CounterService).add(stockKey(unique), 2);
  const reservations = await Promise.allSettled([1, 1, 1].map((quantity) => shop.reserve(unique, quantity)));
  const refused = reservations.filter((one) => one.status === 'rejected').map((one): unknown => one.reason);
  assert.equal(refused.length, 1);
  assert(refused[0] instanceof AtomicRedisError, String(refused[0]));
  assert.equal(refused[0].outcome, 'not-applied');
  console.log('@AtomicCounter: of three reservations on a stock of 2 one is refused');
}

async function tryRoute(url: string): Promise<void> {
  const key = randomUUID();
  const send = (headers: Record<string, string>): Promise<Response> =>
    fetch(`${url}/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ sku: 'tea' }),
    });
  const order = async (headers: Record<string, string>) => {
    const response = await send(headers);
    const replayed = response.headers.get('idempotency-replayed');
    return { status: response.status, replayed, body: await response.json() };
  };
  const created = { status: 201, body: { id: 1, sku: 'tea' } };
  assert.deepEqual(await order({ 'idempotency-key': key }), { ...created, replayed: null });
  assert.deepEqual(await order({ 'idempotency-key': key }), { ...created, replayed: 'true' });
  const refused = await send({});
  assert.equal(refused.status, 400);
  assert.match(refused.headers.get('content-type') ?? '', /^application\/problem\+json/);
  console.log('POST /orders: the second answer is a replay of the first');
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
