import { Injectable } from '@nestjs/common';
import { Idempotent, InjectRun, type IdempotentRun } from 'nestjs-atomic-redis';
import { LEASE_MS, type Effect, type Place, type RunOnce } from '../../tool.js';
import { startApp } from '../atomic-redis.js';

@Injectable()
class Orders {
  constructor(@InjectRun() private readonly run: IdempotentRun) {}

  @Idempotent({ operation: 'orders.create', key: (key: string) => key, leaseMs: LEASE_MS })
  async create(_key: string, effect: Effect): Promise<string> {
    return await this.run.step('order', () => effect.make(), {
      onInterrupted: async () => {
        const result = await effect.find();
        return result === undefined ? 'run' : { result };
      },
    });
  }
}

export async function start({ url }: Place): Promise<RunOnce> {
  const { provider: orders, close } = await startApp(url, Orders);
  return { run: (key, effect) => orders.create(key, effect), close };
}

export { isHeld, notApplied } from '../atomic-redis.js';
