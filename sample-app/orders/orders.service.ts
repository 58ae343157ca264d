import { Injectable, NotFoundException } from '@nestjs/common';
import { Redis } from 'ioredis';
import { TransactionService } from 'nestjs-atomic-redis';
import { MailsService } from '../mails/mails.service.js';
import { lastOrderIdKey, orderKey } from '../redis/keys.js';
import type { CreateOrderDto, Order } from './order.dto.js';

@Injectable()
export class OrdersService {
  constructor(
    private readonly redis: Redis,
    private readonly mails: MailsService,
    private readonly transactions: TransactionService,
  ) {}

  /**
   * One EXEC keeps the order and marks its Idempotency-Key as used: a process that is killed leaves
   * both or neither.
   */
  async create(dto: CreateOrderDto): Promise<Order> {
    const order = await this.prepare(dto);
    return await this.transactions.run(
      [orderKey(order.id)],
      async (tx) => {
        tx.write.hset(orderKey(order.id), order);
        return order;
      },
      // The key is held until the transaction's time is over, so a killed process would hold it for
      // the default of 10 s. This keeps it near the route's lease of 3 s.
      { completesRun: (kept) => kept, timeoutMs: 2_500 },
    );
  }

  /**
   * An order with a number of its own, which is not kept yet. Its mail goes first: who is killed in
   * between leaves a mail too many, and never an order without one.
   */
  async prepare({ sku, quantity }: CreateOrderDto): Promise<Order> {
    const id = await this.redis.incr(lastOrderIdKey);
    await this.mails.enqueue({ order: String(id), text: `Thank you for your order of ${quantity} ${sku}` });
    return { id, sku, quantity, placedAt: new Date().toISOString() };
  }

  async find(id: number): Promise<Order> {
    const { sku, quantity, placedAt } = await this.redis.hgetall(orderKey(id));
    if (sku === undefined || quantity === undefined || placedAt === undefined) {
      throw new NotFoundException(`There is no order ${id}`);
    }
    return { id, sku, quantity: Number(quantity), placedAt };
  }

  async count(): Promise<number> {
    return Number(await this.redis.get(lastOrderIdKey));
  }
}
