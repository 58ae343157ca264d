import { useExample } from './examples.js';

describe('docs/shadow-keys.md', () => {
  const example = useExample('docs/shadow-keys.md');

  it('replaces the catalogue, refuses an older one, and goes back', async () => {
    const put = async (version: number, ...products: { sku: string; price: number }[]): Promise<unknown> =>
      (await example.send('PUT', '/catalog', { version, products })).body;
    const find = async (sku: string): Promise<unknown> => (await example.send('GET', `/catalog/${sku}`)).body;
    const goBack = async (): Promise<unknown> => (await example.send('POST', '/catalog/rollback')).body;

    expect(await put(1, { sku: 'tea', price: 3 }, { sku: 'jam', price: 4 })).toEqual({
      swapped: true,
      written: 2,
    });
    expect(await put(2, { sku: 'tea', price: 5 })).toEqual({ swapped: true, written: 1 });
    expect(await find('tea')).toEqual({ sku: 'tea', price: 5 });
    expect(await find('jam')).toEqual({});
    expect(await put(1, { sku: 'old', price: 1 })).toMatchObject({ swapped: false });
    expect(await goBack()).toEqual({ wentBack: true });
    expect(await find('jam')).toEqual({ sku: 'jam', price: 4 });
    expect(await goBack()).toEqual({ wentBack: false });
    expect((await example.send('PUT', '/catalog', { version: 3, products: [] })).status).toBe(500);
  });
});
