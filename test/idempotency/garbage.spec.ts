import { join } from 'node:path';
import { useRedis } from '../support/redis.js';
import { startWorker } from '../support/workers.js';

describe('what idempotent runs leave to the garbage collector', () => {
  const redis = useRedis();

  it('dies young, also where many are under way at once', async () => {
    const script = join(__dirname, 'garbage.worker.ts');
    const { result } = startWorker<number>({ script, data: { url: redis.server.url }, timeoutMs: 80_000 });
    // Some 400 on a quiet machine, 1,000 on a busy one, where more calls are under way at a
    // collection. A register that is made anew again and again, and chains what it held before:
    // 3,500 bytes and more.
    expect(await result).toBeLessThan(2_000);
  });
});
