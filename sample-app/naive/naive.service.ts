import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConflictException, Injectable, ServiceUnavailableException } from '@nestjs/common';
import { Redis } from 'ioredis';
import { InsufficientFundsException, NoSuchAccountException } from '../accounts/accounts.errors.js';
import type { Account } from '../accounts/account.dto.js';
import { chargeOf } from '../checkout/charge-of.js';
import type { CheckoutDto, Receipt } from '../checkout/checkout.dto.js';
import type { Reservation, ReserveDto } from '../inventory/inventory.dto.js';
import type { CreateOrderDto, Order } from '../orders/order.dto.js';
import { OrdersService } from '../orders/orders.service.js';
import type { ImportCatalogDto } from '../catalog/catalog.dto.js';
import { productsOf } from '../catalog/supplier.js';
import { MailsService } from '../mails/mails.service.js';
import { mailFor } from '../mails/order-mails.js';
import { PaymentProvider } from '../payment-provider/payment-provider.js';
import type { Views } from '../products/product.dto.js';
import {
  balanceKey,
  lockKey,
  naiveCatalogKey,
  naiveReceiptKey,
  naiveReplyKey,
  paidOrderKey,
  reservationsKey,
  salesStatementsKey,
  stockKey,
  viewsKey,
} from '../redis/keys.js';
import type { SalesStatement } from '../sales/sales.dto.js';

const LOCK_MS = 1_000;
const LOCK_WAIT_MS = 5_000;

/**
 * THE WRONG WAY, kept for comparison: read, decide, write, with nothing to hold the three together.
 * Each method works on the same keys as its right twin, and is right as long as requests come one
 * after the other.
 */
@Injectable()
export class NaiveService {
  constructor(
    private readonly redis: Redis,
    private readonly orders: OrdersService,
    private readonly mails: MailsService,
    private readonly provider: PaymentProvider,
  ) {}

  async createOrder(idempotencyKey: string, dto: CreateOrderDto): Promise<Order> {
    const earlier = await this.redis.get(naiveReplyKey(idempotencyKey));
    if (earlier !== null) return JSON.parse(earlier) as Order;
    // The race: every request that reads before the SET below creates its own order.
    const order = await this.orders.prepare(dto);
    await this.mails.enqueue(mailFor(order));
    await this.orders.keep(order);
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
    await this.redis.hset(reservationsKey(sku), reservation.id, JSON.stringify(reservation));
    return reservation;
  }

  async countView(sku: string): Promise<Views> {
    const views = Number(await this.redis.get(viewsKey(sku))) + 1;
    // The race: two that read 41 both write 42, and one view was never counted.
    await this.redis.set(viewsKey(sku), views);
    return { sku, views };
  }

  async importCatalog(dto: ImportCatalogDto): Promise<void> {
    await this.redis.del(naiveCatalogKey);
    // The race: until the last product is there, readers see a part of the catalogue; for good, if
    // the import breaks off.
    for await (const product of productsOf(dto)) {
      await this.redis.hset(naiveCatalogKey, product.sku, JSON.stringify(product));
    }
  }

  async countCatalog(): Promise<{ products: number }> {
    return { products: await this.redis.hlen(naiveCatalogKey) };
  }

  async pay(idempotencyKey: string, dto: CheckoutDto): Promise<Receipt> {
    const { sku, cart, quantity } = dto;
    const earlier = await this.redis.get(naiveReceiptKey(idempotencyKey));
    if (earlier !== null) return JSON.parse(earlier) as Receipt;
    const stock = Number(await this.redis.get(stockKey(sku)));
    if (stock < quantity) throw new ConflictException(`There are ${stock} left of ${sku}`);
    await this.redis.set(stockKey(sku), stock - quantity);
    const charge = await this.provider.charge(chargeOf(dto));
    if (charge === null) throw new ConflictException('The card was declined');
    // The gap: a process that is killed here has charged, and has recorded nothing. The next
    // request begins from the start, and charges again.
    const receipt: Receipt = { cart, state: 'paid', charge };
    await this.redis.hset(paidOrderKey(sku, cart), { quantity, state: 'paid', charge });
    await this.mails.enqueue({ order: cart, text: `You paid for ${quantity} ${sku}` });
    await this.redis.set(naiveReceiptKey(idempotencyKey), JSON.stringify(receipt));
    return receipt;
  }

  /** A plain lock. */
  async publishSales(sku: string): Promise<SalesStatement> {
    const lock = lockKey(salesStatementsKey(sku));
    const giveUpAt = Date.now() + LOCK_WAIT_MS;
    while ((await this.redis.set(lock, 'taken', 'PX', LOCK_MS, 'NX')) === null) {
      if (Date.now() > giveUpAt) throw new ServiceUnavailableException(`The statements of ${sku} are locked`);
      await sleep(5 + Math.random() * 20);
    }
    try {
      const sales = await this.provider.salesOf(sku);
      // The gap: a process that was stopped for longer than the lock lives continues here without
      // it. Its old numbers come after the newer ones of another process, and then it deletes
      // whatever lock it finds.
      await this.redis.rpush(salesStatementsKey(sku), JSON.stringify(sales));
      return sales;
    } finally {
      await this.redis.del(lock);
    }
  }
}
