import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConflictException, Injectable, ServiceUnavailableException } from '@nestjs/common';
import { Redis } from 'ioredis';
import { InsufficientFundsException, NoSuchAccountException } from '../accounts/accounts.errors.js';
import type { Account } from '../accounts/account.dto.js';
import type { ImportCatalogDto } from '../catalog/catalog.dto.js';
import { productsOf } from '../catalog/supplier.js';
import { chargeOf } from '../checkout/charge-of.js';
import type { CheckoutDto, Receipt } from '../checkout/checkout.dto.js';
import type { Reservation, ReserveDto } from '../inventory/inventory.dto.js';
import type { CreateOrderDto, Order } from '../orders/order.dto.js';
import { OrdersService } from '../orders/orders.service.js';
import { MailsService } from '../mails/mails.service.js';
import { mailFor } from '../mails/order-mails.js';
import { PaymentProvider } from '../payment-provider/payment-provider.js';
import type { Views } from '../products/product.dto.js';
import {
  balanceKey,
  byHandCatalogKey,
  byHandReceiptKey,
  byHandReplyKey,
  lockKey,
  paidOrderKey,
  reservationsKey,
  salesStatementsKey,
  stockKey,
  unfinishedCatalogKey,
  viewsKey,
} from '../redis/keys.js';
import type { SalesStatement } from '../sales/sales.dto.js';

const LOCK_MS = 5_000;
const LOCK_WAIT_MS = 2_000;
/** The statements' lock expires sooner than the others, and callers wait for it longer. */
const STATEMENT_LOCK_MS = 1_000;
const STATEMENT_WAIT_MS = 5_000;
/** Frees the lock only if it is still the caller's. */
const UNLOCK = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`;
/** Prolongs the lock only if it is still the caller's. */
const RENEW = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`;

/**
 * THE USUAL MENDS of NaiveService, by hand: a lock, DECRBY with a check, SET NX, INCR, RENAME. Each
 * is right while every reply arrives and every process keeps running.
 */
@Injectable()
export class ByHandService {
  constructor(
    private readonly redis: Redis,
    private readonly orders: OrdersService,
    private readonly mails: MailsService,
    private readonly provider: PaymentProvider,
  ) {}

  /**
   * SET NX claims the key, so one request makes the order. The others get its answer, or 409 until
   * it is there.
   */
  async createOrder(idempotencyKey: string, dto: CreateOrderDto): Promise<Order> {
    const key = byHandReplyKey(idempotencyKey);
    // The gap: if the reply is lost, the client sends SET NX again and learns that the key is
    // taken. The winner mistakes itself for a duplicate, and no request makes the order. If the
    // process is killed, the key stays pending for an hour.
    const claimed = await this.redis.set(key, 'pending', 'EX', 3_600, 'NX');
    if (claimed === null) {
      const earlier = await this.redis.get(key);
      if (earlier === null || earlier === 'pending') throw new ConflictException('The order is being made');
      return JSON.parse(earlier) as Order;
    }
    try {
      const order = await this.orders.prepare(dto);
      await this.mails.enqueue(mailFor(order));
      await this.orders.keep(order);
      await this.redis.set(key, JSON.stringify(order), 'EX', 3_600);
      return order;
    } catch (error) {
      await this.redis.del(key);
      throw error;
    }
  }

  /** A lock around the read and the write, with a time to live, and released by its owner only. */
  async withdraw(id: string, amount: number): Promise<Account> {
    const lock = lockKey(balanceKey(id));
    const token = randomUUID();
    const giveUpAt = Date.now() + LOCK_WAIT_MS;
    // The gap: if the reply is lost, the client sends SET NX again and learns that the lock is
    // taken. It waits for itself, and all others wait with it, until the lock expires. So they do
    // when the owner is killed.
    while ((await this.redis.set(lock, token, 'PX', LOCK_MS, 'NX')) === null) {
      if (Date.now() > giveUpAt) throw new ServiceUnavailableException(`Account ${id} is locked`);
      await sleep(5 + Math.random() * 20);
    }
    try {
      const stored = await this.redis.get(balanceKey(id));
      if (stored === null) throw new NoSuchAccountException(id);
      const balance = Number(stored);
      if (balance < amount) throw new InsufficientFundsException(balance, amount);
      // Another gap: an owner that stalls for longer than the lock lives writes here without it.
      await this.redis.set(balanceKey(id), balance - amount);
      return { id, balance: balance - amount };
    } finally {
      await this.redis.eval(UNLOCK, 1, lock, token);
    }
  }

  /**
   * DECRBY is one step, so nothing is sold twice: take, look at what is left, and put back what was
   * too much.
   */
  async reserve(sku: string, { quantity }: ReserveDto): Promise<Reservation> {
    // The gap: if the reply is lost, the client sends DECRBY again, and the stock goes down twice
    // for one reservation.
    const left = await this.redis.decrby(stockKey(sku), quantity);
    if (left < 0) {
      await this.redis.incrby(stockKey(sku), quantity);
      throw new ConflictException(`There is too little left of ${sku}`);
    }
    const reservation = { id: randomUUID(), sku, quantity, left };
    await this.redis.hset(reservationsKey(sku), reservation.id, JSON.stringify(reservation));
    return reservation;
  }

  /** INCR is one step, so no view is lost. */
  async countView(sku: string): Promise<Views> {
    // The gap: if the reply is lost, the client sends INCR again, and one view counts twice.
    return { sku, views: await this.redis.incr(viewsKey(sku)) };
  }

  /** Readers see the old catalogue until RENAME puts the new one in its place. */
  async importCatalog(dto: ImportCatalogDto): Promise<void> {
    // The gap: two imports share the temporary key. One deletes what the other has written, and a
    // part goes live.
    await this.redis.del(unfinishedCatalogKey);
    for await (const product of productsOf(dto)) {
      await this.redis.hset(unfinishedCatalogKey, product.sku, JSON.stringify(product));
    }
    await this.redis.rename(unfinishedCatalogKey, byHandCatalogKey);
  }

  async countCatalog(): Promise<{ products: number }> {
    return { products: await this.redis.hlen(byHandCatalogKey) };
  }

  /**
   * SET NX claims the key, so one request pays. The provider gets the key too, so a payment that is
   * made again is not charged again.
   */
  async pay(idempotencyKey: string, dto: CheckoutDto): Promise<Receipt> {
    const { sku, cart, quantity } = dto;
    const key = byHandReceiptKey(idempotencyKey);
    const claimed = await this.redis.set(key, 'pending', 'EX', 3_600, 'NX');
    if (claimed === null) {
      const earlier = await this.redis.get(key);
      if (earlier === null || earlier === 'pending') throw new ConflictException('The payment is being made');
      return JSON.parse(earlier) as Receipt;
    }
    try {
      await this.reserve(sku, dto);
      const charge = await this.provider.charge(chargeOf(dto), idempotencyKey);
      if (charge === null) throw new ConflictException('The card was declined');
      // The gap: a process that is killed here has charged, and leaves the key pending for an hour.
      // The customer has paid, and gets 409. With a short time to live the next request would
      // reserve again instead.
      const receipt: Receipt = { cart, state: 'paid', charge };
      await this.redis.hset(paidOrderKey(sku, cart), { quantity, state: 'paid', charge });
      await this.mails.enqueue({ order: cart, text: `You paid for ${quantity} ${sku}` });
      await this.redis.set(key, JSON.stringify(receipt), 'EX', 3_600);
      return receipt;
    } catch (error) {
      await this.redis.del(key);
      throw error;
    }
  }

  /** A lock with a time to live, renewed while it is held, and released by its owner only. */
  async publishSales(sku: string): Promise<SalesStatement> {
    const lock = lockKey(salesStatementsKey(sku));
    const token = randomUUID();
    const giveUpAt = Date.now() + STATEMENT_WAIT_MS;
    while ((await this.redis.set(lock, token, 'PX', STATEMENT_LOCK_MS, 'NX')) === null) {
      if (Date.now() > giveUpAt) throw new ServiceUnavailableException(`The statements of ${sku} are locked`);
      await sleep(5 + Math.random() * 20);
    }
    const renewal = setInterval(() => {
      this.redis.eval(RENEW, 1, lock, token, STATEMENT_LOCK_MS).catch(() => {});
    }, STATEMENT_LOCK_MS / 3);
    try {
      const sales = await this.provider.salesOf(sku);
      // The gap: a stopped process renewed nothing, and continues here without the lock. To look at
      // the lock first would make the gap smaller, and leave one between look and write.
      await this.redis.rpush(salesStatementsKey(sku), JSON.stringify(sales));
      return sales;
    } finally {
      clearInterval(renewal);
      await this.redis.eval(UNLOCK, 1, lock, token);
    }
  }
}
