import { post, read, send, useShops, type Shop } from './shop.js';

interface CatalogImport {
  edition: number;
  written: number;
  state: string;
}

describe("the shop's catalogue", () => {
  const running = useShops();
  let shop: Shop;
  let shops: readonly Shop[];

  beforeAll(() => {
    ({ shop, shops } = running);
  });

  const importCatalog = async (edition: number, products: number): Promise<CatalogImport> => {
    const { status, body } = await post(shop, '/catalog/imports', { edition, products });
    expect(status).toBe(201);
    return JSON.parse(body) as CatalogImport;
  };
  const count = async (): Promise<number> =>
    (await read<{ products: number }>(shops[1]!, '/catalog')).products;

  it('[SHOP-10] is seen whole while another edition is imported, whose progress is told', async () => {
    expect(await importCatalog(1, 3_000)).toEqual({ edition: 1, written: 3_000, state: 'live' });
    let done = false;
    const importing = importCatalog(2, 100_000).finally(() => (done = true));
    const counts = new Set<number>();
    const progress = new Set<number>();
    while (!done) {
      counts.add(await count());
      progress.add((await read<CatalogImport>(shop, '/catalog/imports/latest')).written);
    }
    expect(await importing).toEqual({ edition: 2, written: 100_000, state: 'live' });
    expect([...counts].filter((one) => one !== 3_000 && one !== 100_000)).toEqual([]);
    expect(progress.size).toBeGreaterThan(2);
    expect(await read(shop, '/catalog/sku-99999')).toMatchObject({ edition: 2 });
  });

  it('[SHOP-10] is never replaced by an earlier edition, and goes back to the one before', async () => {
    await importCatalog(11, 2_000);
    await importCatalog(12, 1_000);
    expect(await importCatalog(10, 5)).toMatchObject({ state: 'older than the live one' });
    expect(await count()).toBe(1_000);
    expect(await post(shop, '/catalog/rollback')).toMatchObject({ status: 200, body: '{"rolledBack":true}' });
    expect(await count()).toBe(2_000);
    expect(await post(shop, '/catalog/rollback')).toMatchObject({
      status: 200,
      body: '{"rolledBack":false}',
    });
  });

  it('[SHOP-5] refuses bad imports', async () => {
    for (const body of [
      {},
      { edition: -1, products: 1 },
      { edition: 1, products: 0 },
      { edition: 1, products: 1e9 },
    ]) {
      expect(await post(shop, '/catalog/imports', body)).toMatchObject({
        status: 400,
        problem: { status: 400 },
      });
    }
    expect(await send('GET', shop, '/catalog/none')).toMatchObject({ status: 404 });
  });
});
