import { Injectable, NotFoundException } from '@nestjs/common';
import { Redis } from 'ioredis';
import { ValueService } from 'nestjs-atomic-redis';
import { voucherKey } from '../redis/keys.js';
import type { Voucher } from './voucher.dto.js';

@Injectable()
export class VouchersService {
  constructor(
    private readonly redis: Redis,
    private readonly values: ValueService,
  ) {}

  async issue(code: string, cents: number): Promise<Voucher> {
    await this.redis.set(voucherKey(code), cents);
    return { code, cents };
  }

  /** Gives the cents of a code to one of its callers. */
  async redeem(code: string): Promise<Voucher> {
    const cents = await this.values.getAndDelete(voucherKey(code));
    if (cents === null) throw new NotFoundException('There is no such voucher');
    return { code, cents: Number(cents) };
  }
}
