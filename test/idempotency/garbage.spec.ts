import { join } from 'node:path';
import { useRedis } from '../support/redis.js';
import { startWorker } from '../support/workers.js';

describe('the garbage of idempotent runs', () => {
  const redis = useRedis();

  it('dies young, even when many runs are in progress', async () => {
    const script = join(__dirname, 'garbage.worker.ts');
    const { result } = startWorker<number>({ script, data: { url: redis.server.url }, timeoutMs: 80_000 });
    // Some 400 on a quiet machine, 1,000 on a busy one, where more calls are under way at a
    // collection. A table that is rebuilt again and again, and chains its former content, costs
    // 3,500 bytes and more.
    expect(await result).toBeLessThan(2_000);
  });
});
