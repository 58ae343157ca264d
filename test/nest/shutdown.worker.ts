import type { AddressInfo, Server } from 'node:net';
import { Controller, Module, Post } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  AtomicCounter,
  AtomicRedisModule,
  Idempotent,
  InjectTransaction,
  OptimisticRetry,
  type Transaction,
} from '../../lib/index.js';
import { worker } from '../support/worker.js';
import { createApplication, type PLATFORMS } from './platforms.js';

export interface ShutdownJob {
  url: string;
  platform: (typeof PLATFORMS)[number];
}

/**
 * Serves a route that uses every decorator, waits in the middle for SIGTERM, and ends by Nest's
 * shutdown hooks.
 */
worker<ShutdownJob>(async ({ data: { url, platform }, send }) => {
  const told = new Promise<void>((resolve) => process.once('SIGTERM', resolve));

  @Controller()
  class OrdersController {
    constructor(@InjectTransaction() private readonly tx: Transaction) {}

    @Post()
    @Idempotent()
    @AtomicCounter({ key: '{orders}:count' })
    @OptimisticRetry({ watch: '{orders}:last' })
    async create(): Promise<{ order: number }> {
      const last = Number(await this.tx.read.get('{orders}:last'));
      send('in hand');
      await told;
      this.tx.write.set('{orders}:last', last + 1);
      return { order: last + 1 };
    }
  }

  @Module({
    imports: [AtomicRedisModule.forRoot({ connection: url, namespace: 'atomic:' })],
    controllers: [OrdersController],
  })
  class AppModule {}

  const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
  const app = createApplication(module, platform);
  app.useLogger(false);
  app.enableShutdownHooks();
  await app.listen(0, '127.0.0.1');
  send(((app.getHttpServer() as Server).address() as AddressInfo).port);
  await new Promise(() => undefined);
});
