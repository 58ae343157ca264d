import { Injectable, NotFoundException } from '@nestjs/common';
import { Redis } from 'ioredis';
import { MailsService } from '../mails/mails.service.js';
import { lastOrderIdKey, orderKey } from '../redis/keys.js';
import type { CreateOrderDto, Order } from './order.dto.js';

@Injectable()
export class OrdersService {
  constructor(
    private readonly redis: Redis,
    private readonly mails: MailsService,
  ) {}

  /** Every call makes another order: it is the route that makes it run once for each Idempotency-Key. */
  async create({ sku, quantity }: CreateOrderDto): Promise<Order> {
    const order = {
      id: await this.redis.incr(lastOrderIdKey),
      sku,
      quantity,
      placedAt: new Date().toISOString(),
    };
    await this.redis.hset(orderKey(order.id), order);
    await this.mails.enqueue({ orderId: order.id, text: `Thank you for your order of ${quantity} ${sku}` });
    return order;
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
