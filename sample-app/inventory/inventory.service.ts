import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import {
  AtomicCounter,
  CounterService,
  CounterValue,
  ReservationService,
  type CounterResult,
} from 'nestjs-atomic-redis';
import { reservationsKey, stockKey } from '../redis/keys.js';
import type {
  CartLineDto,
  HeldStock,
  HoldDto,
  Inventory,
  Reservation,
  ReservedCart,
  ReserveDto,
} from './inventory.dto.js';
import { CartNotInStockException, HoldGoneException } from './inventory.errors.js';

@Injectable()
export class InventoryService {
  constructor(
    private readonly redis: Redis,
    private readonly counters: CounterService,
    private readonly reservations: ReservationService,
  ) {}

  async setStock(sku: string, stock: number): Promise<Inventory> {
    // Holds on the old stock must not return into the new one.
    await this.counters.reset(stockKey(sku));
    await this.redis.multi().set(stockKey(sku), stock).del(reservationsKey(sku)).exec();
    return { sku, stock, reservations: 0 };
  }

  async find(sku: string): Promise<Inventory> {
    const stock = await this.reservations.available(stockKey(sku));
    return { sku, stock, reservations: await this.redis.hlen(reservationsKey(sku)) };
  }

  /**
   * Starts with the stock already taken, or does not start when there is too little; an error gives
   * the stock back.
   */
  @AtomicCounter({
    key: (sku: string) => stockKey(sku),
    by: (_sku: string, dto: ReserveDto) => -dto.quantity,
    min: 0,
  })
  async reserve(
    sku: string,
    dto: ReserveDto,
    @CounterValue() count?: CounterResult<number>,
  ): Promise<Reservation> {
    const reservation = { id: randomUUID(), sku, quantity: dto.quantity, left: count!.value };
    await this.redis.hset(reservationsKey(sku), reservation.id, JSON.stringify(reservation));
    return reservation;
  }

  /** All of the cart or nothing. On a Cluster the articles would have to share a hash tag. */
  async reserveCart(lines: CartLineDto[]): Promise<ReservedCart> {
    const adds = lines.map(({ sku, quantity }) => ({ key: stockKey(sku), amount: -quantity, min: 0 }));
    const { applied, counters } = await this.counters.addAll(adds);
    if (!applied) throw new CartNotInStockException(lines.filter((_, i) => counters[i]!.limited));
    return { left: Object.fromEntries(lines.map(({ sku }, i) => [sku, counters[i]!.value])) };
  }

  /** Kept for a while, and then given back unless it was bought. */
  async hold(sku: string, { quantity, seconds }: HoldDto): Promise<HeldStock> {
    return await this.reservations.hold(stockKey(sku), quantity, { ttlMs: seconds * 1_000 });
  }

  async buy(holdId: string): Promise<void> {
    if (!(await this.reservations.confirm(holdId))) throw new HoldGoneException();
  }

  async release(holdId: string): Promise<void> {
    if (!(await this.reservations.release(holdId))) throw new HoldGoneException();
  }
}
