import { useRedis } from '../support/redis.js';
import { startWorker } from '../support/workers.js';
import { PLATFORMS } from './platforms.js';

describe('an application with enableShutdownHooks() that is sent SIGTERM', () => {
  const redis = useRedis();

  it.each(PLATFORMS)('[NEST-5] completes the request in progress, and ends, on %s', async (platform) => {
    const shop = startWorker<never>({
      script: require.resolve('./shutdown.worker.ts'),
      data: { url: redis.server.url, platform },
      timeoutMs: 60_000,
    });
    const port = await shop.next<number>();
    const order = fetch(`http://127.0.0.1:${port}/`, {
      method: 'POST',
      headers: { 'idempotency-key': 'k', connection: 'close' },
    });
    expect(await shop.next()).toBe('in hand');
    process.kill(shop.pid, 'SIGTERM');
    const response = await order;
    expect(response.status).toBe(201);
    expect(await response.json()).toEqual({ order: 1 });
    expect(await shop.exited).toEqual({ code: null, signal: 'SIGTERM' });

    const { client } = redis;
    expect(await client.mget('{orders}:count', '{orders}:last')).toEqual(['1', '1']);
  });
});
