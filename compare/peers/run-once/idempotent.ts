import { Injectable } from '@nestjs/common';
import { Idempotent } from 'nestjs-atomic-redis';
import { LEASE_MS, type Effect, type Place, type RunOnce } from '../../tool.js';
import { startApp } from '../atomic-redis.js';

@Injectable()
class Orders {
  @Idempotent({ operation: 'orders.create', key: (key: string) => key, leaseMs: LEASE_MS })
  async create(_key: string, effect: Effect): Promise<string> {
    return await effect.make();
  }
}

export async function start({ url }: Place): Promise<RunOnce> {
  const { provider: orders, close } = await startApp(url, Orders);
  return { run: (key, effect) => orders.create(key, effect), close };
}

export { isHeld, notApplied } from '../atomic-redis.js';
