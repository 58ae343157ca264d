import { of, type Observable } from 'rxjs';
import {
  AtomicCounter,
  CounterValue,
  defineQueue,
  Idempotent,
  InjectQueue,
  OptimisticRetry,
  QueueConsumer,
  type CounterResult,
  type QueueJob,
  type ReliableQueue,
  type ReliableQueueService,
  type StandardSchema,
  type Transaction,
  type TransactionService,
} from 'nestjs-atomic-redis';

interface Order {
  id: string;
  quantity: number;
}

export class Accepted {
  @OptimisticRetry({ watch: (id: string) => `account:{${id}}` })
  async withdraw(_id: string, _amount: number): Promise<void> {}

  @OptimisticRetry({ watch: 'one' })
  async withoutArguments(): Promise<void> {}

  @OptimisticRetry({ watch: ['one', 'two'] })
  async withArguments(_order: Order): Promise<void> {}

  @AtomicCounter({ key: (sku: string) => sku, by: (_sku: string, order: Order) => -order.quantity, min: 0 })
  async reserve(_sku: string, _order: Order, _note?: string): Promise<number> {
    return 1;
  }

  @Idempotent({ key: (order: Order) => order.id })
  async ship(_order: Order): Promise<void> {}

  @Idempotent({ key: (order: Order) => order.quantity })
  async byNumber(_order: Order): Promise<void> {}

  @Idempotent()
  create(_order: Order): void {}

  readonly channel: string = 'email';

  @Idempotent({ operation: (self: Accepted) => self.channel, key: (order: Order) => order.id })
  async send(_order: Order): Promise<void> {}

  @Idempotent({ key: (order: { id: string }) => order.id })
  async widerParameter(_order: Order): Promise<void> {}

  @Idempotent({ key: (id: string) => id })
  values(_id: string): Observable<number> {
    return of(1);
  }

  @OptimisticRetry({ watch: 'one', completesRun: (result: { id: number }) => result.id })
  async completing(): Promise<{ id: number; more: string }> {
    return { id: 1, more: '' };
  }

  @AtomicCounter({ key: 'stock' })
  async counted(_sku: string, @CounterValue() count?: CounterResult<number>): Promise<number> {
    return count!.value;
  }

  @AtomicCounter({ key: 'stock', by: 1n })
  async countedExactly(@CounterValue() count?: CounterResult<bigint>): Promise<bigint> {
    return count!.value;
  }

  @AtomicCounter({ key: 'stock' })
  protected async countedInside(@CounterValue() count?: CounterResult): Promise<unknown> {
    return count!.value;
  }

  async overloaded(order: Order): Promise<void>;
  async overloaded(order: Order, note: string): Promise<void>;
  @Idempotent({ key: (order: Order) => order.id })
  async overloaded(_order: Order, _note?: string): Promise<void> {}

  @Idempotent({ key: (order: { id: string }) => order.id })
  async generic<T extends Order>(order: T): Promise<T> {
    return order;
  }

  @Idempotent({ key: (...parts: string[]) => parts.join() })
  async rest(..._parts: string[]): Promise<void> {}
}

export abstract class AcceptedBase<Dto extends { id: string }, Id extends string | number> {
  @Idempotent({ operation: (self: object) => self.constructor.name, key: (dto: { id: string }) => dto.id })
  async create(dto: Dto): Promise<Dto> {
    return dto;
  }

  @Idempotent()
  update(_id: Id, dto: Partial<Dto>): Partial<Dto> {
    return dto;
  }

  @OptimisticRetry({
    watch: (dto: { id: string }) => dto.id,
    completesRun: (result: { id: string }) => result.id,
  })
  async write(dto: Dto): Promise<Dto> {
    return dto;
  }

  @AtomicCounter({ key: (dto: { id: string }) => dto.id })
  async count(dto: Dto, @CounterValue() _count?: CounterResult<number>): Promise<Dto> {
    return dto;
  }
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

const orderQueue = defineQueue<Order>('orders');
declare const parsed: StandardSchema<{ id: string; at: string }, { id: string; at: Date }>;
const dated = defineQueue('dated', { schema: parsed });
const raw = defineQueue('raw', { format: 'bytes' });

export class TypedConsumers {
  constructor(@InjectQueue(orderQueue) readonly orders: ReliableQueue<Order>) {}

  @QueueConsumer(orderQueue, { concurrency: 4 })
  async ship(_job: QueueJob<Order>): Promise<void> {}

  @QueueConsumer(orderQueue)
  wider(_job: QueueJob<{ id: string }>): void {}

  @QueueConsumer(orderQueue)
  withoutJob(): void {}

  @QueueConsumer(dated)
  parsed(job: QueueJob<{ id: string; at: Date }>): number {
    return job.payload.at.getTime();
  }

  @QueueConsumer(raw)
  bytes(_job: QueueJob<Buffer>): void {}

  @QueueConsumer(orderQueue)
  @OptimisticRetry({
    watch: (job: QueueJob<Order>) => job.payload.id,
    completesJob: (job: QueueJob<Order>) => job,
  })
  async completes(_job: QueueJob<Order>): Promise<void> {}
}

export class RefusedTypedConsumers {
  // @ts-expect-error a job of another queue
  @QueueConsumer(orderQueue)
  another(_job: QueueJob<{ to: string }>): void {}

  // @ts-expect-error more than the payload has
  @QueueConsumer(orderQueue)
  narrower(_job: QueueJob<Order & { more: string }>): void {}

  // @ts-expect-error the payload, and not its job
  @QueueConsumer(orderQueue)
  payload(_order: Order): void {}

  // @ts-expect-error what goes into the schema, and not what comes out
  @QueueConsumer(dated)
  input(_job: QueueJob<{ id: string; at: string }>): void {}

  // @ts-expect-error the callback returns no job
  @OptimisticRetry({ watch: 'one', completesJob: (job: QueueJob<Order>) => job.payload })
  async completesNothing(_job: QueueJob<Order>): Promise<void> {}
}

export async function definedQueues(
  queues: ReliableQueueService,
  transactions: TransactionService,
  tx: Transaction,
): Promise<void> {
  const queue = queues.get(orderQueue);
  await queue.push({ id: '1', quantity: 1 });
  await queues.get(dated).push({ id: '1', at: '2026-01-01' });
  const at: Date | undefined = (await queues.get(dated).take())?.payload.at;
  const id: string = tx.push(queue, { id: '1', quantity: 1 }, { delayMs: 5 });
  tx.push(queues.get(dated), { id, at: String(at) });
  const job = (await queue.take())!;
  await transactions.run(['k'], () => 1, { completesJob: job });
  // @ts-expect-error a payload of another type
  await queue.push({ id: 1 });
  // @ts-expect-error what comes out of the schema, and not what goes in
  await queues.get(dated).push({ id: '1', at: new Date() });
  // @ts-expect-error a payload of another type
  tx.push(queue, { id: '1' });
  // @ts-expect-error the name of a queue is no queue
  tx.push('orders', { id: '1', quantity: 1 });
  // @ts-expect-error text, where the queue is of bytes
  await queues.get(raw).push('text');
  // @ts-expect-error a payload is no job
  await transactions.run(['k'], () => 1, { completesJob: job.payload });
  // @ts-expect-error the schema gives out something else
  defineQueue<Order>('orders', { schema: parsed });
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

  // @ts-expect-error callers get a promise
  @Idempotent({ key: (id: string) => id })
  synchronous(id: string): number {
    return id.length;
  }

  // @ts-expect-error callers get a promise of the generator
  @Idempotent({ key: (id: string) => id })
  async *stream(id: string): AsyncGenerator<string> {
    yield id;
  }

  // @ts-expect-error callers get a promise
  @AtomicCounter({ key: 'stock' })
  synchronousCount(): number {
    return 1;
  }

  // @ts-expect-error callers get a promise
  @OptimisticRetry({ watch: 'one' })
  synchronousTransaction(): void {}

  // @ts-expect-error the method resolves with something else
  @OptimisticRetry({ watch: 'one', completesRun: (result: { id: number }) => result.id })
  async completesAnother(): Promise<string> {
    return '';
  }

  @AtomicCounter({ key: 'stock' })
  // @ts-expect-error it is a count, not its value
  async wrongCount(@CounterValue() count?: number): Promise<number> {
    return count! + 1;
  }

  // @ts-expect-error not a method
  @Idempotent()
  property = 1;

  // @ts-expect-error no such option
  @OptimisticRetry({ watch: 'one', retries: 3 })
  async unknownOption(): Promise<void> {}
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
