import { randomUUID } from 'node:crypto';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { waitFor } from '../support/wait-for.js';
import { many, post, read, startShop, stopShop, tally, twoHundred, type Shop } from './shop.js';

interface Counts {
  pending: number;
  processing: number;
  dead: number;
  sent: number;
}

describe('the mails of the shop, in two processes', () => {
  let redis: RedisServer;
  let shops: Shop[];

  beforeAll(async () => {
    redis = await startRedisServer();
    shops = await Promise.all([startShop({ REDIS_URL: redis.url }), startShop({ REDIS_URL: redis.url })]);
  });

  afterAll(async () => {
    await Promise.all((shops ?? []).map(stopShop));
    await redis?.stop();
  });

  const order = (shop: Shop, index: number) =>
    post(shop, '/orders', { sku: `article-${index}`, quantity: 1 }, { 'Idempotency-Key': randomUUID() });

  const allSent = (sent: number, shop: Shop) =>
    waitFor(
      `${sent} mails`,
      async () => {
        const counts = await read<Counts>(shop, '/mails');
        return counts.pending + counts.processing === 0 && counts.sent >= sent && counts;
      },
      25_000,
    );

  it('[SHOP-12] sends one mail for each of 200 orders', async () => {
    expect(tally(await twoHundred(shops, order))).toEqual({ 201: 200 });
    expect(await allSent(200, shops[0]!)).toEqual({
      pending: 0,
      delayed: 0,
      processing: 0,
      dead: 0,
      sent: 200,
    });
  });

  it('[SHOP-12] sends them also when one of two shops is killed on the way', async () => {
    const { sent: before } = await read<Counts>(shops[0]!, '/mails');
    const [survivor, victim] = shops as [Shop, Shop];
    const orders = many(100, [survivor], order);
    victim.process.kill('SIGKILL');
    expect(tally(await orders)).toEqual({ 201: 100 });
    expect(await allSent(before + 100, survivor)).toEqual({
      pending: 0,
      delayed: 0,
      processing: 0,
      dead: 0,
      sent: before + 100,
    });
  });
});
