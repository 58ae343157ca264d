import { Injectable } from '@nestjs/common';
import {
  AtomicCounter,
  Idempotent,
  InjectTransaction,
  OptimisticRetry,
  type Transaction,
} from 'nestjs-atomic-redis';

export interface ShipOrder {
  orderId: string;
  address: string;
}

@Injectable()
export class Shop {
  shipments = 0;

  constructor(@InjectTransaction() private readonly tx: Transaction) {}

  @OptimisticRetry({ watch: (id: string) => balanceKey(id) })
  async deposit(id: string, amount: number): Promise<number> {
    const balance = Number(await this.tx.read.get(balanceKey(id))) + amount;
    this.tx.write.set(balanceKey(id), balance);
    return balance;
  }

  @Idempotent({ operation: 'shop.ship', key: (job: ShipOrder) => job.orderId })
  async ship(job: ShipOrder): Promise<{ label: string }> {
    this.shipments += 1;
    return { label: `${job.orderId} to ${job.address}` };
  }

  @AtomicCounter({
    key: (sku: string) => stockKey(sku),
    by: (_sku: string, quantity: number) => -quantity,
    min: 0,
  })
  async reserve(sku: string, quantity: number): Promise<string> {
    return `${quantity} of ${sku}`;
  }
}

export function balanceKey(id: string): string {
  return `account:{${id}}:balance`;
}

export function stockKey(sku: string): string {
  return `inventory:{${sku}}`;
}
