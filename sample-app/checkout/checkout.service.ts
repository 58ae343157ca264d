import { ConflictException, Injectable, NotFoundException } from '@nestjs/common';
import { Redis } from 'ioredis';
import {
  InjectQueue,
  InjectTransaction,
  OptimisticRetry,
  Transaction,
  type ReliableQueue,
} from 'nestjs-atomic-redis';
import { orderMails, type OrderMail } from '../mails/order-mails.js';
import { paidOrderKey, stockKey } from '../redis/keys.js';
import type { CheckoutDto, PaidOrder, Receipt } from './checkout.dto.js';

const orderOf = ({ sku, cart }: CheckoutDto): string => paidOrderKey(sku, cart);

/** A process that is killed in a transaction holds its key for some 2 s beyond this. */
const timeoutMs = 1_000;

/**
 * The parts of a checkout whose effects are in Redis. On a Cluster the queue of mails and the
 * record of the run would have to share the hash tag of stock and order.
 */
@Injectable()
export class CheckoutService {
  constructor(
    private readonly redis: Redis,
    @InjectTransaction() private readonly tx: Transaction,
    @InjectQueue(orderMails) private readonly mails: ReliableQueue<OrderMail>,
  ) {}

  /** One EXEC takes the stock, makes the order and keeps the result of the step. */
  @OptimisticRetry({
    watch: (dto: CheckoutDto) => [stockKey(dto.sku), orderOf(dto)],
    timeoutMs,
    completesStep: (left) => left,
  })
  async reserve(dto: CheckoutDto): Promise<number> {
    const { sku, cart, quantity } = dto;
    const [made, stock] = await Promise.all([
      this.tx.read.exists(orderOf(dto)),
      this.tx.read.get(stockKey(sku)),
    ]);
    if (made) throw new ConflictException(`The cart ${cart} has a checkout`);
    const left = Number(stock) - quantity;
    if (left < 0) throw new ConflictException(`There is too little left of ${sku}`);
    this.tx.write.set(stockKey(sku), left);
    this.tx.write.hset(orderOf(dto), { quantity, state: 'reserved' });
    return left;
  }

  /** One EXEC records the charge, hands the mail on, and ends the run. */
  @OptimisticRetry({ watch: orderOf, timeoutMs, completesRun: (receipt) => receipt })
  async confirm(dto: CheckoutDto, charge: string): Promise<Receipt> {
    const { sku, cart, quantity } = dto;
    this.tx.write.hset(orderOf(dto), { state: 'paid', charge });
    this.tx.push(this.mails, { order: cart, text: `You paid for ${quantity} ${sku}` });
    return { cart, state: 'paid', charge };
  }

  /** One EXEC gives the stock back, forgets the order, and ends the run. */
  @OptimisticRetry({ watch: orderOf, timeoutMs, completesRun: (receipt) => receipt })
  async cancel(dto: CheckoutDto): Promise<Receipt> {
    this.tx.write.incrby(stockKey(dto.sku), dto.quantity);
    this.tx.write.del(orderOf(dto));
    return { cart: dto.cart, state: 'declined', charge: null };
  }

  async find(sku: string, cart: string): Promise<PaidOrder> {
    const { quantity, state, charge = null } = await this.redis.hgetall(paidOrderKey(sku, cart));
    if (state === undefined) throw new NotFoundException(`There is no order of the cart ${cart}`);
    return { cart, quantity: Number(quantity), state: state as PaidOrder['state'], charge };
  }
}
