import { post, read, send, tally, twoHundred, useShops, type Shop } from './shop.js';

/** Two processes of the built shop on one Redis. */
describe('transfers and statements of the shop', () => {
  const running = useShops();
  let shop: Shop;
  let shops: readonly Shop[];

  beforeAll(() => {
    ({ shop, shops } = running);
  });

  const balanceOf = async (id: string): Promise<number> =>
    (await read<{ balance: number }>(shop, `/accounts/${id}`)).balance;

  it('[SHOP-8] lets exactly 100 of 200 parallel transfers of 1 from 100 pass, and loses no cent', async () => {
    await send('PUT', shop, '/accounts/nina', { balance: 100 });
    await send('PUT', shop, '/accounts/otto', { balance: 0 });
    const answers = await twoHundred(shops, (one) =>
      post(one, '/accounts/nina/transfers', { to: 'otto', amount: 1 }),
    );
    expect(tally(answers)).toEqual({ 201: 100, '409 INSUFFICIENT_FUNDS': 100 });
    expect([await balanceOf('nina'), await balanceOf('otto')]).toEqual([0, 100]);
  });

  it('[SHOP-8] loses no cent over transfers to and fro', async () => {
    const ids = ['paul', 'quin', 'rosa'];
    for (const id of ids) await send('PUT', shop, `/accounts/${id}`, { balance: 50 });
    const answers = await twoHundred(shops, (one, i) =>
      post(one, `/accounts/${ids[i % 3]}/transfers`, {
        to: ids[(i + 1 + (i % 2)) % 3],
        amount: 1 + (i % 30),
      }),
    );
    for (const kind of Object.keys(tally(answers))) expect(['201', '409 INSUFFICIENT_FUNDS']).toContain(kind);
    const balances = await Promise.all(ids.map(balanceOf));
    expect(Math.min(...balances)).toBeGreaterThanOrEqual(0);
    expect(balances.reduce((sum, balance) => sum + balance, 0)).toBe(150);
  });

  it('[SHOP-8] gives three statements at once, with the latest transfers', async () => {
    await send('PUT', shop, '/accounts/sven', { balance: 10 });
    await post(shop, '/accounts/sven/transfers', { to: 'tina', amount: 4 });
    await post(shop, '/accounts/tina/transfers', { to: 'sven', amount: 1 });
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => post(shops[i % 2]!, '/accounts/sven/statements')),
    );
    const [first] = answers.filter(({ status }) => status === 201);
    expect(tally(answers)['201']).toBeGreaterThanOrEqual(3);
    // More only if ten requests took as long as a refill does.
    expect(tally(answers)['201']).toBeLessThan(6);
    expect(JSON.parse(first!.body)).toMatchObject({
      id: 'sven',
      balance: 7,
      transfers: [
        { amount: 1, balance: 7 },
        { amount: -4, balance: 6 },
      ],
    });
    expect(answers.find(({ status }) => status === 429)?.problem?.detail).toMatch(/can be had in \d+ s/);
  });

  it.each([
    [{ to: 'otto', amount: 0 }, 400],
    [{ to: 'otto', amount: 0.5 }, 400],
    [{ to: 'otto' }, 400],
    [{ to: 'a{b}', amount: 1 }, 400],
    [{ amount: 1 }, 400],
    [{ to: 'nina', amount: 1 }, 400],
    [{ to: 'otto', amount: 1, from: 'x' }, 400],
    [{ to: 'otto', amount: 1_000_000 }, 409],
  ])('[SHOP-5] refuses a transfer of %j by %i', async (body, status) => {
    await send('PUT', shop, '/accounts/nina', { balance: 5 });
    const answer = await post(shop, '/accounts/nina/transfers', body);
    expect([answer.status, answer.problem?.status]).toEqual([status, status]);
    // Neither key nor balance is anybody's business.
    expect(answer.body).not.toMatch(/bank|\b5\b/);
    expect(await balanceOf('nina')).toBe(5);
  });
});
