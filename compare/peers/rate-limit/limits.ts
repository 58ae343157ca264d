import { Injectable } from '@nestjs/common';
import { LimitService } from 'nestjs-atomic-redis';
import { LIMIT, LIMIT_PER_MS, type Place, type RateLimit } from '../../tool.js';
import { startApp } from '../atomic-redis.js';

@Injectable()
class Calls {
  constructor(private readonly limits: LimitService) {}

  async take(key: string): Promise<boolean> {
    return (await this.limits.take({ key, limit: LIMIT, perMs: LIMIT_PER_MS })).allowed;
  }
}

export async function start({ url }: Place): Promise<RateLimit> {
  const { provider: calls, close } = await startApp(url, Calls);
  return { take: (key) => calls.take(key), close };
}

export { notApplied } from '../atomic-redis.js';
