import { startWorker } from '../support/workers.js';
import { useRedis } from '../support/redis.js';

describe('a process that has closed its application', () => {
  const redis = useRedis();

  it('[MOD-6] ends by itself, even with unfinished work', async () => {
    const process = startWorker<string>({
      script: require.resolve('./exit.worker.ts'),
      data: { url: redis.server.url },
      timeoutMs: 40_000,
    });
    await expect(process.result).resolves.toBe('closed');
    await expect(process.exited).resolves.toEqual({ code: 0, signal: null });
  });
});
