import {
  AtomicCounter,
  Idempotent,
  OptimisticRetry,
  QueueConsumer,
  type QueueJob,
  type ReliableQueueService,
  type Transaction,
} from 'nestjs-atomic-redis';

interface Order {
  id: string;
  quantity: number;
}

export class Accepted {
  @OptimisticRetry({ watch: (id: string) => `account:{${id}}` })
  async withdraw(_id: string, _amount: number): Promise<void> {}

  @OptimisticRetry({ watch: 'one' })
  withoutArguments(): void {}

  @OptimisticRetry({ watch: ['one', 'two'] })
  withArguments(_order: Order): void {}

  @AtomicCounter({ key: (sku: string) => sku, by: (_sku: string, order: Order) => -order.quantity, min: 0 })
  async reserve(_sku: string, _order: Order, _note?: string): Promise<number> {
    return 1;
  }

  @Idempotent({ key: (order: Order) => order.id })
  async ship(_order: Order): Promise<void> {}

  @Idempotent({ key: (order: Order) => order.quantity })
  byNumber(_order: Order): void {}

  @Idempotent()
  create(_order: Order): void {}

  readonly channel: string = 'email';

  @Idempotent({ operation: (self: Accepted) => self.channel, key: (order: Order) => order.id })
  async send(_order: Order): Promise<void> {}

  @Idempotent({ key: (order: { id: string }) => order.id })
  widerParameter(_order: Order): void {}
}

export class AcceptedConsumers {
  @QueueConsumer('orders', { concurrency: 4 })
  async ship(_job: QueueJob<Order>): Promise<void> {}

  @QueueConsumer('orders')
  withoutJob(): void {}

  @Idempotent({ key: (job: QueueJob<Order>) => job.id })
  @QueueConsumer('orders')
  async shipOnce(_job: QueueJob<Order>): Promise<void> {}
}

export class RefusedConsumers {
  // @ts-expect-error a consumer is given a job, not its payload
  @QueueConsumer('orders')
  ship(_order: Order): void {}

  // @ts-expect-error there is nothing for the second parameter
  @QueueConsumer('orders')
  ship2(_job: QueueJob<Order>, _more: number): void {}
}

export async function queuesOf(queues: ReliableQueueService): Promise<void> {
  await queues.get<Order>('orders').push({ id: '1', quantity: 1 });
  // @ts-expect-error a payload of another type
  await queues.get<Order>('orders').push({ id: 1 });
  // @ts-expect-error text, where the queue is of bytes
  await queues.get('raw', { format: 'bytes' }).push('text');
}

export class Refused {
  // @ts-expect-error the callback takes a number, the method a string
  @OptimisticRetry({ watch: (id: number) => `account:{${id}}` })
  async withdraw(_id: string): Promise<void> {}

  // @ts-expect-error the method has no such parameter
  @Idempotent({ key: (order: Order) => order.id })
  async nothing(): Promise<void> {}

  // @ts-expect-error the callback takes an order, the method a string
  @Idempotent({ key: (order: Order) => order.id })
  async ship(_id: string): Promise<void> {}

  // @ts-expect-error the amount's callback takes a number where the method takes an order
  @AtomicCounter({ key: (sku: string) => sku, by: (_sku: string, by: number) => by })
  async reserve(_sku: string, _order: Order): Promise<void> {}

  // @ts-expect-error a key is text or an integer
  @Idempotent({ key: (order: Order) => order })
  async keyed(_order: Order): Promise<void> {}

  // @ts-expect-error the callback takes another class
  @Idempotent({ operation: (self: Accepted) => self.channel, key: (order: Order) => order.id })
  async named(_order: Order): Promise<void> {}

  // @ts-expect-error not a method
  @Idempotent()
  property = 1;

  // @ts-expect-error no such option
  @OptimisticRetry({ watch: 'one', retries: 3 })
  unknownOption(): void {}
}

export async function transactionTypes(tx: Transaction): Promise<void> {
  const text: string | null = await tx.read.get('k');
  const map: Record<string, string> = await tx.read.hgetall('h');
  tx.write.set('k', `${text}`, 'PX', 10);
  tx.write.hset('h', { ...map });
  // @ts-expect-error writes are not reads
  await tx.read.set('k', 1);
  // @ts-expect-error reads are not writes
  tx.write.get('k');
  // @ts-expect-error a queued write has no value
  const value: number = tx.write.incr('k');
  // @ts-expect-error an object is no value
  tx.write.set('k', { value });
}
