import { useRedis } from '../support/redis.js';
import { runWorkers } from '../support/workers.js';

describe('a counter shared by processes', () => {
  const redis = useRedis();

  it('[CT-1] accepts exactly 100 of 1,000 adds by 4 processes with a limit of 100, and no sample exceeds it', async () => {
    const running = runWorkers<number>({
      script: require.resolve('./processes.worker.ts'),
      count: 4,
      data: { url: redis.server.url, calls: 250, max: 100 },
    });
    let done = false;
    const finished = running.finally(() => (done = true));
    let highest = 0;
    while (!done) highest = Math.max(highest, Number(await redis.client.get('quota')));
    const counted = await finished;
    expect(counted.reduce((sum, one) => sum + one, 0)).toBe(100);
    expect(highest).toBeLessThanOrEqual(100);
    expect(await redis.client.get('quota')).toBe('100');
    expect(await redis.client.pttl('quota')).toBeGreaterThan(0);
  });
});
