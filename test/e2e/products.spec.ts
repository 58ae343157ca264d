import { read, send, tally, twoHundred, useShops, type Shop } from './shop.js';

interface Change {
  from: number | null;
  to: number;
  by: string;
}

describe('products of the shop', () => {
  const running = useShops();
  let shop: Shop;
  let shops: readonly Shop[];

  beforeAll(() => {
    ({ shop, shops } = running);
  });

  const describeTea = (text: string, headers: Record<string, string>, one = shop) =>
    send('PUT', one, '/products/tea/description', { text }, headers);

  const etagOfTea = async (): Promise<string> =>
    (await fetch(`${shop.url}/products/tea/description`)).headers.get('etag')!;

  it('[SHOP-7] saves one of 200 parallel edits that began from the same text', async () => {
    expect((await send('GET', shop, '/products/tea/description')).status).toBe(404);
    const first = await twoHundred(shops, (one, i) =>
      describeTea(`text ${i}`, { 'If-None-Match': '*' }, one),
    );
    expect(tally(first)).toEqual({ 200: 1, '412 DESCRIPTION_CHANGED': 199 });

    const etag = await etagOfTea();
    const edits = await twoHundred(shops, (one, i) => describeTea(`edit ${i}`, { 'If-Match': etag }, one));
    expect(tally(edits)).toEqual({ 200: 1, '412 DESCRIPTION_CHANGED': 199 });
    const saved = edits.find(({ status }) => status === 200)!;
    expect(await read(shop, '/products/tea/description')).toEqual(JSON.parse(saved.body));
    expect((await describeTea('again', { 'If-Match': await etagOfTea() })).status).toBe(200);
  });

  it('[SHOP-7] logs 200 parallel changes of a price in one chain', async () => {
    const answers = await twoHundred(shops, (one, i) =>
      send('PUT', one, '/products/tea/price', { cents: i, changedBy: `clerk ${i}` }),
    );
    expect(tally(answers)).toEqual({ 200: 200 });
    const changes: Change[] = [];
    let next: string | null = '';
    do {
      const page: { changes: Change[]; next: string | null } = await read(
        shop,
        `/products/tea/price/history${next && `?before=${next}`}`,
      );
      changes.unshift(...page.changes.toReversed());
      next = page.next;
    } while (next !== null);
    expect(changes).toHaveLength(200);
    for (const [i, { from, to, by }] of changes.entries()) {
      expect([from, by]).toEqual([i === 0 ? null : changes[i - 1]!.to, `clerk ${to}`]);
    }
  });

  it('[SHOP-5] refuses bad requests with problem details', async () => {
    expect(await describeTea('x', {})).toMatchObject({
      problem: { status: 428, code: 'PRECONDITION_REQUIRED' },
    });
    expect((await describeTea('\ud800', { 'If-None-Match': '*' })).problem?.status).toBe(400);
    const price = (body: unknown) => send('PUT', shop, '/products/tea/price', body);
    expect((await price({ cents: 1.5, changedBy: 'ada' })).problem?.status).toBe(400);
    expect((await price({ cents: 1 })).problem?.status).toBe(400);
    expect((await send('GET', shop, '/products/tea/price/history?before=0-0')).problem?.status).toBe(400);
    expect((await send('GET', shop, '/products/{tea}/price/history')).problem?.status).toBe(400);
  });
});
