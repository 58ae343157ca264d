import { Controller, Module, Post } from '@nestjs/common';
import {
  AtomicRedisModule,
  Idempotent,
  IdempotencyService,
  TransactionService,
  type AtomicRedisEvent,
  type AtomicRedisOptions,
  type LimitReservation,
  type ReliableQueue,
} from 'nestjs-atomic-redis';
import { AtomicRedisHealthIndicator } from 'nestjs-atomic-redis/health';
import { ApiIdempotent } from 'nestjs-atomic-redis/openapi';
import { openTelemetry } from 'nestjs-atomic-redis/opentelemetry';
import {
  AtomicRedisOutcomes,
  AtomicRedisTestingModule,
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
} from 'nestjs-atomic-redis/testing';

@Controller('orders')
export class OrdersController {
  @Post()
  @ApiIdempotent()
  @Idempotent({ ttlMs: 1_000 })
  create(): { id: number } {
    return { id: 1 };
  }
}

// @ts-expect-error a namespace is required
export const withoutNamespace: AtomicRedisOptions = { connection: 'redis://localhost:6379' };

@Module({
  imports: [
    AtomicRedisModule.forRoot({
      connection: { host: 'localhost', port: 6379 },
      namespace: 'shop:',
      telemetry: openTelemetry(),
    }),
    AtomicRedisModule.forRootAsync({
      name: 'orders',
      useFactory: () => ({ connection: 'redis://localhost:6379', namespace: 'orders:' }),
    }),
    AtomicRedisTestingModule,
  ],
  controllers: [OrdersController],
  providers: [AtomicRedisHealthIndicator],
})
export class AppModule {}

// One kind of a union, whose type has no name of its own.
export const lost = (event: AtomicRedisEvent) => (event.type === 'lease.lost' ? event : undefined);
export const addedMs = (event: Extract<AtomicRedisEvent, { type: 'counters.add' }>): number =>
  event.durationMs;
export const reserved = (given: LimitReservation) => (given.allowed ? given : undefined);

// A decorator of an application's own.
export const Once = (operation: string) => Idempotent({ operation, key: (job: { id: string }) => job.id });

export async function use(
  transactions: TransactionService,
  idempotency: IdempotencyService,
  outcomes: AtomicRedisOutcomes,
  queue: ReliableQueue<{ to: string }>,
): Promise<void> {
  const text: string | null = await transactions.run(['k'], (tx) => tx.read.get('k'), {
    completesRun: (result) => result?.length,
  });
  await idempotency.inspect({ method: 'POST', path: '/orders', key: text ?? '' });
  outcomes.on(OrdersController, 'create').replays({ id: 2 });
  const job = await queue.take();
  await job?.ack();
  const to: string | undefined = job?.payload.to;
  console.log(to);
  const server = await startRedisServer();
  const proxy: FaultProxy = await startFaultProxy({ target: server.url });
  await proxy.stop();
  // @ts-expect-error nothing internal is there
  void idempotency.claim('k', {});
  // @ts-expect-error nothing internal is there
  void transactions.close();
}
