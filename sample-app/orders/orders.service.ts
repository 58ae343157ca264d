import { Injectable, NotFoundException } from '@nestjs/common';
import { Redis } from 'ioredis';
import { InjectQueue, TransactionService, type ReliableQueue } from 'nestjs-atomic-redis';
import { mailFor, orderMails, type OrderMail } from '../mails/order-mails.js';
import { lastOrderIdKey, orderCountKey, orderKey } from '../redis/keys.js';
import type { CreateOrderDto, Order } from './order.dto.js';

@Injectable()
export class OrdersService {
  constructor(
    private readonly redis: Redis,
    private readonly transactions: TransactionService,
    @InjectQueue(orderMails) private readonly mails: ReliableQueue<OrderMail>,
  ) {}

  /**
   * One EXEC keeps the order, pushes its mail and marks its Idempotency-Key as used: a process that
   * is killed leaves all of them or none.
   */
  async create(dto: CreateOrderDto): Promise<Order> {
    const order = await this.prepare(dto);
    return await this.transactions.run(
      [orderKey(order.id)],
      async (tx) => {
        tx.write.hset(orderKey(order.id), order);
        tx.write.incr(orderCountKey);
        tx.push(this.mails, mailFor(order));
        return order;
      },
      // The key is held until the transaction's time is over, so a killed process would hold it for
      // the default of 10 s. This keeps it near the route's lease of 3 s.
      { completesRun: (kept) => kept, timeoutMs: 2_500 },
    );
  }

  /** An order with a number of its own, which is not kept yet. */
  async prepare({ sku, quantity }: CreateOrderDto): Promise<Order> {
    const id = await this.redis.incr(lastOrderIdKey);
    return { id, sku, quantity, placedAt: new Date().toISOString() };
  }

  /**
   * Without a transaction: a process that is killed in between leaves an order that is not counted.
   */
  async keep(order: Order): Promise<void> {
    await this.redis.hset(orderKey(order.id), order);
    await this.redis.incr(orderCountKey);
  }

  async find(id: number): Promise<Order> {
    const { sku, quantity, placedAt } = await this.redis.hgetall(orderKey(id));
    if (sku === undefined || quantity === undefined || placedAt === undefined) {
      throw new NotFoundException(`There is no order ${id}`);
    }
    return { id, sku, quantity: Number(quantity), placedAt };
  }

  async count(): Promise<number> {
    return Number(await this.redis.get(orderCountKey));
  }
}
