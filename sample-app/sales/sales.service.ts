import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { TransactionService, WithPermit } from 'nestjs-atomic-redis';
import { PaymentProvider } from '../payment-provider/payment-provider.js';
import { salesStatementsKey } from '../redis/keys.js';
import type { SalesStatement } from './sales.dto.js';

@Injectable()
export class SalesService {
  constructor(
    private readonly redis: Redis,
    private readonly transactions: TransactionService,
    private readonly provider: PaymentProvider,
  ) {}

  /**
   * Every process may be told to publish at night: one at a time does. One that lost the permit
   * meanwhile, because it stood still, publishes nothing: its EXEC is refused.
   */
  @WithPermit({ name: (sku: string) => salesStatementsKey(sku), leaseMs: 1_000 }) // short, so that the lab need not stop a process for long
  async publish(sku: string): Promise<SalesStatement> {
    const sales = await this.provider.salesOf(sku);
    await this.transactions.run(
      [salesStatementsKey(sku)],
      (tx) => void tx.write.rpush(salesStatementsKey(sku), JSON.stringify(sales)),
      { permit: 'current', timeoutMs: 2_000 },
    );
    return sales;
  }

  async find(sku: string): Promise<SalesStatement[]> {
    const statements = await this.redis.lrange(salesStatementsKey(sku), 0, -1);
    return statements.map((statement) => JSON.parse(statement) as SalesStatement);
  }
}
