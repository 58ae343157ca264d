import 'reflect-metadata';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { AtomicRedisError, AtomicRedisModule, CounterService, TransactionService } from 'nestjs-atomic-redis';
import { balanceKey, Shop, stockKey } from './shop.js';

const url = process.env['REDIS_URL'];
assert(url, 'REDIS_URL is set by the smoke test');

@Module({ imports: [AtomicRedisModule.forRoot({ connection: url })], providers: [Shop] })
class AppModule {}

async function main(): Promise<void> {
  const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error', 'warn'] });
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

  // Nothing ends this process from here on: it must end by itself.
  await app.close();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
