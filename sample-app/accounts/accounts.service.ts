import { BadRequestException, Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { InjectTransaction, OptimisticRetry, Transaction, TransferService } from 'nestjs-atomic-redis';
import { balanceKey, transfersKey } from '../redis/keys.js';
import type { Account, TransferredAccounts } from './account.dto.js';
import { InsufficientFundsException, NoSuchAccountException } from './accounts.errors.js';

@Injectable()
export class AccountsService {
  constructor(
    private readonly redis: Redis,
    private readonly transfers: TransferService,
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

  /**
   * Runs again from the start when the balance was changed between its read and its write; an error
   * writes nothing.
   */
  @OptimisticRetry({ watch: (id: string) => balanceKey(id) })
  async withdraw(id: string, amount: number): Promise<Account> {
    const stored = await this.tx.read.get(balanceKey(id));
    if (stored === null) throw new NoSuchAccountException(id);
    const balance = Number(stored);
    if (balance < amount) throw new InsufficientFundsException(balance, amount);
    this.tx.write.set(balanceKey(id), balance - amount);
    return { id, balance: balance - amount };
  }

  /** Both balances and the entry of the log change in one step, or none of them. */
  async transfer(id: string, to: string, amount: number): Promise<TransferredAccounts> {
    if (to === id) throw new BadRequestException('to must be another account');
    const balances = await this.transfers.transfer(
      { from: balanceKey(id), to: balanceKey(to), amount },
      { audit: { log: transfersKey, maxEntries: 10_000 } },
    );
    return { from: { id, balance: balances.from }, to: { id: to, balance: balances.to } };
  }
}
