import { randomUUID } from 'node:crypto';
import { ConflictException, Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { InsufficientFundsException, NoSuchAccountException } from '../accounts/accounts.errors.js';
import type { Account } from '../accounts/account.dto.js';
import type { Reservation, ReserveDto } from '../inventory/inventory.dto.js';
import type { CreateOrderDto, Order } from '../orders/order.dto.js';
import { OrdersService } from '../orders/orders.service.js';
import { balanceKey, naiveReplyKey, reservationsKey, stockKey } from '../redis/keys.js';

/**
 * THE WRONG WAY, kept for comparison: read, decide, write, with nothing to hold the three together. Each method works on the
 * same keys as its right twin, and is right as long as requests come one after the other.
 */
@Injectable()
export class NaiveService {
  constructor(
    private readonly redis: Redis,
    private readonly orders: OrdersService,
  ) {}

  async createOrder(idempotencyKey: string, dto: CreateOrderDto): Promise<Order> {
    const earlier = await this.redis.get(naiveReplyKey(idempotencyKey));
    if (earlier !== null) return JSON.parse(earlier) as Order;
    // The race: whoever reads before the first SET below is done creates an order of its own.
    const order = await this.orders.create(dto);
    await this.redis.set(naiveReplyKey(idempotencyKey), JSON.stringify(order));
    return order;
  }

  async withdraw(id: string, amount: number): Promise<Account> {
    const stored = await this.redis.get(balanceKey(id));
    if (stored === null) throw new NoSuchAccountException(id);
    const balance = Number(stored);
    if (balance < amount) throw new InsufficientFundsException(balance, amount);
    // The race: two that read 100 both write 99, and one withdrawal was never paid for.
    await this.redis.set(balanceKey(id), balance - amount);
    return { id, balance: balance - amount };
  }

  async reserve(sku: string, { quantity }: ReserveDto): Promise<Reservation> {
    const stock = Number(await this.redis.get(stockKey(sku)));
    if (stock < quantity) throw new ConflictException(`There are ${stock} left of ${sku}`);
    // The race: two that read 1 both write 0, and the last piece is sold twice.
    await this.redis.set(stockKey(sku), stock - quantity);
    const reservation = { id: randomUUID(), sku, quantity, left: stock - quantity };
    await this.redis.rpush(reservationsKey(sku), JSON.stringify(reservation));
    return reservation;
  }
}
