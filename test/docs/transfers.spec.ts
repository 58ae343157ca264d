import { useExample } from './examples.js';

describe('the example of docs/transfers.md', () => {
  const example = useExample('docs/transfers.md');
  const pay = (body: object) => example.send('POST', '/payments', body);

  it('pays a covered amount, fee included, and logs it', async () => {
    const { client } = example.redis;
    await client.set('account:{shop}:alice', 100);
    const payment = { from: 'alice', to: 'bob', cents: 70 };
    expect(await pay({ ...payment, fee: 5 })).toMatchObject({
      status: 201,
      body: [
        { from: 30, to: 70 },
        { from: 25, to: 5 },
      ],
    });
    expect(await pay(payment)).toMatchObject({
      status: 409,
      body: { code: 'INSUFFICIENT_FUNDS', detail: 'The balance is too low' },
    });
    const most = { ...payment, cents: 25 };
    expect((await pay({ ...most, fee: 1 })).status).toBe(409);
    expect(await pay(most)).toMatchObject({ status: 201, body: [{ from: 0, to: 95 }] });
    expect(await client.xlen('account:{shop}:log')).toBe(3);
  });

  it('pays out a balance once to concurrent callers', async () => {
    const { client } = example.redis;
    await client.set('account:{shop}:alice', 10);
    const answers = await Promise.all(
      Array.from({ length: 30 }, () => pay({ from: 'alice', to: 'bob', cents: 1 })),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(10);
    expect(await client.mget('account:{shop}:alice', 'account:{shop}:bob')).toEqual(['0', '10']);
  });
});
