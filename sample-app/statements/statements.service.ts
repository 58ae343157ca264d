import { HttpException, HttpStatus, Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { InjectScript, type ScriptFunction } from 'nestjs-atomic-redis';
import { AccountsService } from '../accounts/accounts.service.js';
import { balanceKey, statementsKey, transfersKey } from '../redis/keys.js';
import type { Statement, StatementEntry } from './statement.dto.js';
import { takeTokenScript } from './take-token.script.js';

/** Three at once, and then one every ten seconds. */
const LIMIT = { capacity: 3, refillMs: 10_000 };

/** Number of entries of the transfer log that are read. */
const ENTRIES = 1_000;

@Injectable()
export class StatementsService {
  constructor(
    private readonly redis: Redis,
    private readonly accounts: AccountsService,
    @InjectScript(takeTokenScript) private readonly takeToken: ScriptFunction<typeof takeTokenScript>,
  ) {}

  async create(id: string): Promise<Statement> {
    const { balance } = await this.accounts.find(id);
    const { taken, waitMs } = await this.takeToken({ keys: { bucket: statementsKey(id) }, args: LIMIT });
    if (!taken) {
      const seconds = Math.ceil(waitMs / 1000);
      throw new HttpException(`The next statement can be had in ${seconds} s`, HttpStatus.TOO_MANY_REQUESTS);
    }
    return { id, balance, transfers: await this.transfersOf(balanceKey(id)) };
  }

  private async transfersOf(key: string): Promise<StatementEntry[]> {
    const entries = await this.redis.xrevrange(transfersKey, '+', '-', 'COUNT', ENTRIES);
    return entries.flatMap(([, fields]) => {
      const value = (name: string): string => fields[fields.indexOf(name) + 1]!;
      const at = new Date(Number(value('atMs'))).toISOString();
      if (value('from') === key)
        return [{ amount: -Number(value('amount')), balance: Number(value('fromBalance')), at }];
      if (value('to') === key)
        return [{ amount: Number(value('amount')), balance: Number(value('toBalance')), at }];
      return [];
    });
  }
}
