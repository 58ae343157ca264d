import { contend } from '../soak/contention.js';
import { useRedis } from '../support/redis.js';

describe('transactions of several processes on one key', () => {
  const redis = useRedis();

  it('[TX-13] count every increment and starve nobody, within the default number of attempts', async () => {
    const { counted, failed, max } = await contend({
      url: redis.server.url,
      key: 'counter',
      workers: 4,
      callers: 16,
      increments: 50,
    });
    expect(failed).toEqual([]);
    expect(counted).toBe(4 * 16 * 50);
    expect(await redis.client.get('counter')).toBe(String(counted));
    expect(max).toBeLessThanOrEqual(50);
  });
});
