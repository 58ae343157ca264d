import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { AtomicCounter } from 'nestjs-atomic-redis';
import { reservationsKey, stockKey } from '../redis/keys.js';
import type { ReserveDto } from './inventory.dto.js';

export interface Inventory {
  sku: string;
  stock: number;
  /** How many reservations were accepted since the stock was set. */
  reservations: number;
}

export interface Reservation {
  id: string;
  sku: string;
  quantity: number;
}

@Injectable()
export class InventoryService {
  constructor(private readonly redis: Redis) {}

  async setStock(sku: string, stock: number): Promise<Inventory> {
    await this.redis.multi().set(stockKey(sku), stock).del(reservationsKey(sku)).exec();
    return { sku, stock, reservations: 0 };
  }

  async find(sku: string): Promise<Inventory> {
    const stock = Number(await this.redis.get(stockKey(sku)));
    return { sku, stock, reservations: await this.redis.llen(reservationsKey(sku)) };
  }

  /** Starts with the stock already taken, or does not start when there is too little; an error gives the stock back. */
  @AtomicCounter({
    key: (sku: string) => stockKey(sku),
    by: (_sku: string, dto: ReserveDto) => -dto.quantity,
    min: 0,
  })
  async reserve(sku: string, dto: ReserveDto): Promise<Reservation> {
    const reservation = { id: randomUUID(), sku, quantity: dto.quantity };
    await this.redis.rpush(reservationsKey(sku), JSON.stringify(reservation));
    return reservation;
  }
}
