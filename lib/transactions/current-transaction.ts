import { Injectable } from '@nestjs/common';
import { getTransactionToken } from '../atomic-redis.constants.js';
import { injection } from '../injection.js';
import type { PushTarget, QueuedPushOptions } from '../scripting/queued-push.js';
import type { TransactionReads, TransactionWrites } from './transaction-commands.js';
import { TransactionService } from './transaction.service.js';
import { Transaction } from './transaction.js';

/**
 * Stands for whichever transaction the calling code runs in. Its members throw
 * `IllegalTransactionStateError` outside of one.
 */
@Injectable()
export class CurrentTransaction extends Transaction {
  constructor(private readonly transactions: TransactionService) {
    super();
  }

  override get read(): TransactionReads {
    return this.transactions.currentTransaction().read;
  }

  override get write(): TransactionWrites {
    return this.transactions.currentTransaction().write;
  }

  override get attempt(): number {
    return this.transactions.currentTransaction().attempt;
  }

  override get signal(): AbortSignal {
    return this.transactions.currentTransaction().signal;
  }

  override watch(...keys: string[]): Promise<void> {
    return this.transactions.currentTransaction().watch(...keys);
  }

  override push<Payload>(
    queue: PushTarget<Payload>,
    payload: NoInfer<Payload>,
    options?: QueuedPushOptions,
  ): string {
    return this.transactions.currentTransaction().push(queue, payload, options);
  }
}

/** Injects the {@link Transaction} that the calling `@OptimisticRetry` method runs in. */
export const InjectTransaction = (name?: string): PropertyDecorator & ParameterDecorator =>
  injection('InjectTransaction', getTransactionToken(name));
