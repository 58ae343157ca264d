import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { InjectTransaction, OptimisticRetry, Transaction } from 'nestjs-atomic-redis';
import { balanceKey } from '../redis/keys.js';
import { InsufficientFundsException, NoSuchAccountException } from './accounts.errors.js';

export interface Account {
  id: string;
  balance: number;
}

@Injectable()
export class AccountsService {
  constructor(
    private readonly redis: Redis,
    @InjectTransaction() private readonly tx: Transaction,
  ) {}

  async setBalance(id: string, balance: number): Promise<Account> {
    await this.redis.set(balanceKey(id), balance);
    return { id, balance };
  }

  async find(id: string): Promise<Account> {
    const balance = await this.redis.get(balanceKey(id));
    if (balance === null) throw new NoSuchAccountException(id);
    return { id, balance: Number(balance) };
  }

  /** Runs again from the start when the balance was changed between its read and its write; an error writes nothing. */
  @OptimisticRetry({ watch: (id: string) => balanceKey(id) })
  async withdraw(id: string, amount: number): Promise<Account> {
    const stored = await this.tx.read.get(balanceKey(id));
    if (stored === null) throw new NoSuchAccountException(id);
    const balance = Number(stored);
    if (balance < amount) throw new InsufficientFundsException(balance, amount);
    this.tx.write.set(balanceKey(id), balance - amount);
    return { id, balance: balance - amount };
  }
}
