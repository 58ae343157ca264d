import { waitFor } from '../support/wait-for.js';
import { post, read, send, tally, twoHundred, useShops, type Shop } from './shop.js';

describe('carts and holds of the shop, in two processes', () => {
  const running = useShops();
  let shop: Shop;
  let shops: readonly Shop[];
  let other: Shop;

  beforeAll(() => {
    ({ shop, shops } = running);
    other = running.shops[1]!;
  });

  const stock = async (sku: string, of: Shop = shop): Promise<number> =>
    (await read<{ stock: number }>(of, `/inventory/${sku}`)).stock;

  const setStock = (sku: string, amount: number) => send('PUT', shop, `/inventory/${sku}`, { stock: amount });

  it('[SHOP-9] reserves 200 carts whole or not at all', async () => {
    await Promise.all([setStock('tea', 50), setStock('milk', 80)]);
    const lines = [
      { sku: 'tea', quantity: 1 },
      { sku: 'milk', quantity: 2 },
    ];
    const answers = await twoHundred(shops, (one, i) =>
      post(one, '/inventory/carts', { lines: i % 3 ? lines : lines.toReversed() }),
    );
    expect(tally(answers)).toEqual({ 201: 40, '409 NOT_IN_STOCK': 160 });
    expect([await stock('tea'), await stock('milk')]).toEqual([10, 0]);
    expect(answers.find(({ status }) => status === 409)?.problem?.detail).toMatch(/too little of milk/);
  });

  it('[SHOP-9] holds for a while, for whoever has the id', async () => {
    await setStock('tea', 10);
    const hold = async (quantity: number, seconds: number): Promise<string> => {
      const { status, body } = await post(shop, '/inventory/tea/holds', { quantity, seconds });
      expect(status).toBe(201);
      return (JSON.parse(body) as { id: string }).id;
    };
    const [bought, released, forgotten] = [await hold(3, 600), await hold(2, 600), await hold(1, 1)];
    expect(await post(other, '/inventory/tea/holds', { quantity: 11, seconds: 1 })).toMatchObject({
      problem: { status: 409, code: 'COUNTER_LIMIT' },
    });
    expect((await send('PUT', other, `/inventory/holds/${bought}/purchase`)).status).toBe(204);
    expect((await send('DELETE', other, `/inventory/holds/${released}`)).status).toBe(204);
    await waitFor('the expiry', async () => (await stock('tea', other)) === 7);
    for (const id of [bought, released, forgotten, 'no-such-hold']) {
      expect(await send('PUT', shop, `/inventory/holds/${id}/purchase`)).toMatchObject({
        problem: { status: 409, code: 'HOLD_GONE' },
      });
      expect((await send('DELETE', shop, `/inventory/holds/${id}`)).status).toBe(409);
    }
    expect(await stock('tea')).toBe(7);
  });

  it('[SHOP-9] gives nothing back into a stock that was set anew', async () => {
    await setStock('tea', 10);
    const { body } = await post(shop, '/inventory/tea/holds', { quantity: 3, seconds: 600 });
    await setStock('tea', 20);
    expect(
      (await send('DELETE', shop, `/inventory/holds/${(JSON.parse(body) as { id: string }).id}`)).status,
    ).toBe(409);
    expect(await stock('tea')).toBe(20);
  });

  it.each<[string, string, unknown, RegExp]>([
    ['an empty cart', 'carts', { lines: [] }, /lines/],
    ['a cart that is no list', 'carts', { lines: 'tea' }, /lines/],
    ['a cart of nothing', 'carts', { lines: [null] }, /lines/],
    [
      'an article twice',
      'carts',
      {
        lines: [
          { sku: 'tea', quantity: 1 },
          { sku: 'tea', quantity: 1 },
        ],
      },
      /once/,
    ],
    ['a sku with braces', 'carts', { lines: [{ sku: '{tea}', quantity: 1 }] }, /sku/],
    ['a quantity of 0', 'carts', { lines: [{ sku: 'tea', quantity: 0 }] }, /quantity/],
    ['a hold of 0', 'tea/holds', { quantity: 0, seconds: 1 }, /quantity/],
    ['a hold for no time', 'tea/holds', { quantity: 1 }, /seconds/],
    ['a hold for a day', 'tea/holds', { quantity: 1, seconds: 86_400 }, /seconds/],
  ])('[SHOP-5] refuses %s', async (_, path, body, detail) => {
    expect(await post(shop, `/inventory/${path}`, body)).toMatchObject({
      problem: { status: 400, detail: expect.stringMatching(detail) },
    });
  });
});
