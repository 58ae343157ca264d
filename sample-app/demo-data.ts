import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { Redis } from 'ioredis';
import { balanceKey, stockKey } from './redis/keys.js';

/** Something to withdraw from and to reserve on a first visit; what is there already stays. */
@Injectable()
export class DemoData implements OnApplicationBootstrap {
  constructor(private readonly redis: Redis) {}

  async onApplicationBootstrap(): Promise<void> {
    await this.redis.set(balanceKey('alice'), 100, 'NX');
    await this.redis.set(stockKey('tea'), 50, 'NX');
  }
}
