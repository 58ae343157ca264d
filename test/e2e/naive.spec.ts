import { randomUUID } from 'node:crypto';
import { post, read, send, twoHundred, type Answer, useShops, type Shop } from './shop.js';

/**
 * The same load as in shop.spec.ts. A race need not show in every round; if none of these shows it,
 * something is wrong here.
 */
const ROUNDS = 20;

describe('the naive twins under load', () => {
  const running = useShops();
  let shop: Shop;
  let shops: readonly Shop[];

  beforeAll(() => {
    ({ shop, shops } = running);
  });

  const successes = (answers: Answer[]): number => answers.filter(({ status }) => status === 201).length;

  /**
   * Repeats the round until it returns true; says in which round that was, or that it never was.
   */
  async function roundThatGoesWrong(round: () => Promise<boolean>): Promise<number | 'never'> {
    for (let i = 1; i <= ROUNDS; i++) if (await round()) return i;
    return 'never';
  }

  it('[SHOP-4] make several orders of one idempotency key', async () => {
    const wrong = await roundThatGoesWrong(async () => {
      const { count: before } = await read<{ count: number }>(shop, '/orders');
      const headers = { 'Idempotency-Key': randomUUID() };
      await twoHundred(shops, (one) => post(one, '/naive/orders', { sku: 'tea', quantity: 1 }, headers));
      const { count } = await read<{ count: number }>(shop, '/orders');
      return count - before > 1;
    });
    expect(wrong).not.toBe('never');
  });

  it('[SHOP-4] pay out more than the balance', async () => {
    const wrong = await roundThatGoesWrong(async () => {
      await send('PUT', shop, '/accounts/carol', { balance: 100 });
      const withdraw = (one: Shop) => post(one, '/naive/accounts/carol/withdrawals', { amount: 1 });
      return successes(await twoHundred(shops, withdraw)) > 100;
    });
    expect(wrong).not.toBe('never');
  });

  it('[SHOP-4] accept more reservations than there is stock', async () => {
    const wrong = await roundThatGoesWrong(async () => {
      await send('PUT', shop, '/inventory/pu-erh', { stock: 50 });
      const reserve = (one: Shop) => post(one, '/naive/inventory/pu-erh/reservations', { quantity: 1 });
      const accepted = successes(await twoHundred(shops, reserve));
      const { reservations } = await read<{ reservations: number }>(shop, '/inventory/pu-erh');
      return accepted > 50 && reservations === accepted;
    });
    expect(wrong).not.toBe('never');
  });

  it('[SHOP-4] are right as long as requests come one after the other', async () => {
    await send('PUT', shop, '/accounts/carol', { balance: 2 });
    await send('PUT', shop, '/inventory/pu-erh', { stock: 2 });
    const headers = { 'Idempotency-Key': randomUUID() };
    const statuses: number[][] = [];
    for (let i = 0; i < 3; i++) {
      const one = shops[i % 2]!;
      statuses.push([
        (await post(one, '/naive/accounts/carol/withdrawals', { amount: 1 })).status,
        (await post(one, '/naive/inventory/pu-erh/reservations', { quantity: 1 })).status,
        (await post(one, '/naive/orders', { sku: 'tea', quantity: 1 }, headers)).status,
      ]);
    }
    expect(statuses).toEqual([
      [201, 201, 201],
      [201, 201, 201],
      [409, 409, 201],
    ]);
  });
});
