import { useExample } from './examples.js';

describe('the example of docs/counters.md', () => {
  const { redis, send } = useExample('docs/counters.md');

  const stock = (sku: string): Promise<string | null> => redis.client.get(`stock:{shop}:${sku}`);

  it('never sells more than there is', async () => {
    expect(await send('POST', '/stock/tea/deliveries', { quantity: 10 })).toMatchObject({
      body: { sku: 'tea', stock: 10 },
    });
    const sales = await Promise.all(
      Array.from({ length: 20 }, () => send('POST', '/stock/tea/sales', { quantity: 1 })),
    );
    const sold = sales.filter(({ status }) => status === 201);
    expect(sold.map(({ body }) => (body as { left: number }).left).toSorted((a, b) => a - b)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
    expect(sales.filter(({ status }) => status === 409)).toHaveLength(10);
    expect(await stock('tea')).toBe('0');
  });

  it('sells a cart whole or not at all', async () => {
    await send('POST', '/stock/tea/deliveries', { quantity: 3 });
    await send('POST', '/stock/milk/deliveries', { quantity: 1 });
    const sell = (tea: number, milk: number) =>
      send('POST', '/stock/carts', {
        cart: [
          { sku: 'tea', quantity: tea },
          { sku: 'milk', quantity: milk },
        ],
      });
    expect(await sell(1, 2)).toMatchObject({ body: { sold: false, missing: ['milk'] } });
    expect(await stock('tea')).toBe('3');
    expect(await sell(2, 1)).toMatchObject({ body: { sold: true, missing: [] } });
    expect([await stock('tea'), await stock('milk')]).toEqual(['1', '0']);
  });
});
