import { randomUUID } from 'node:crypto';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisServer,
} from '../../lib/testing/index.js';
import { waitFor } from '../support/wait-for.js';
import { post, read, startShop, stopShop, type Shop } from './shop.js';

describe('an order whose process is killed', () => {
  let redis: RedisServer;
  let proxy: FaultProxy;
  let victim: Shop;
  let survivor: Shop;

  beforeAll(async () => {
    redis = await startRedisServer({ binary: process.env.TEST_REDIS_BINARY });
    proxy = await startFaultProxy({ target: redis.url });
    [victim, survivor] = await Promise.all([
      startShop({ REDIS_URL: proxy.url }),
      startShop({ REDIS_URL: redis.url }),
    ]);
  });

  afterAll(async () => {
    await Promise.all([victim, survivor].map((shop) => shop && stopShop(shop)));
    await proxy?.stop();
    await redis?.stop();
  });

  it('[SHOP-1] is stored once, and a retry gets it, when the shop is killed after storing the order and before responding', async () => {
    const order = { sku: 'tea', quantity: 1 };
    const headers = { 'Idempotency-Key': randomUUID() };
    // The order is kept, and the shop never gets to know.
    const kept = proxy.blackHole({ match: ({ name }) => name === 'EXEC', deliver: true });
    const answerOfVictim = post(victim, '/orders', order, headers).catch(() => 'none');
    await kept.triggered;
    const found = await waitFor('the order', async () => {
      return await read<{ id: number }>(survivor, '/orders/1').catch(() => undefined);
    });
    victim.process.kill('SIGKILL');
    expect(await answerOfVictim).toBe('none');

    const answer = await waitFor('the answer to the retry', async () => {
      const retry = await post(survivor, '/orders', order, headers);
      return retry.status === 201 && retry;
    });
    expect(JSON.parse(answer.body)).toEqual(found);
    expect(await read(survivor, '/orders')).toEqual({ count: 1 });
  });
});
