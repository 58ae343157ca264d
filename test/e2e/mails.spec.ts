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

describe('the mailer of the shop, in two processes', () => {
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

  /** A customer's client sends a request again under the same key. */
  const orders = () => {
    const keys = randomUUID();
    return (shop: Shop, index: number) =>
      post(
        shop,
        '/orders',
        { sku: `article-${index}`, quantity: 1 },
        { 'Idempotency-Key': `${keys}-${index}` },
      );
  };

  const allSent = (sent: number, shop: Shop) =>
    waitFor(`${sent} mails`, async () => {
      const counts = await read<Counts>(shop, '/mails');
      return counts.pending + counts.processing === 0 && counts.sent >= sent && counts;
    });

  it('[SHOP-12] sends one mail for each of 200 orders', async () => {
    expect(tally(await twoHundred(shops, orders()))).toEqual({ 201: 200 });
    expect(await allSent(200, shops[0]!)).toEqual({
      pending: 0,
      delayed: 0,
      processing: 0,
      dead: 0,
      sent: 200,
    });
  });

  it('[SHOP-12] sends them even when one of two shops is killed meanwhile', async () => {
    const { sent: before } = await read<Counts>(shops[0]!, '/mails');
    const [survivor, victim] = shops as [Shop, Shop];
    const answers = many(100, [survivor], orders());
    victim.process.kill('SIGKILL');
    expect(tally(await answers)).toEqual({ 201: 100 });
    expect(await allSent(before + 100, survivor)).toEqual({
      pending: 0,
      delayed: 0,
      processing: 0,
      dead: 0,
      sent: before + 100,
    });
  });
});
