import { send, useShops } from './shop.js';

describe('the health of the shop', () => {
  const running = useShops();

  it('[SHOP-14] is up with Redis, and down with the reason while Redis is silent', async () => {
    const { shop, redis } = running;
    const up = await send('GET', shop, '/health');
    expect(up.status).toBe(200);
    expect(JSON.parse(up.body)).toMatchObject({
      status: 'ok',
      details: { redis: { status: 'up', transactions: { waiting: 0 } } },
    });
    redis.pause();
    try {
      const down = await send('GET', shop, '/health');
      expect(down.status).toBe(503);
      expect(JSON.parse(down.body)).toMatchObject({
        details: { redis: { status: 'down', code: 'REDIS_UNAVAILABLE' } },
      });
    } finally {
      redis.resume();
    }
  });
});
