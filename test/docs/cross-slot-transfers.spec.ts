import { useExample } from './examples.js';

describe('the example of docs/cross-slot-transfers.md', () => {
  const example = useExample('docs/cross-slot-transfers.md');
  const pay = (body: object) => example.send('POST', '/payments', body);

  it('pays an amount that is covered, and leaves nothing pending', async () => {
    const { client } = example.redis;
    await client.set('account:{alice}', 100);
    const payment = { from: 'alice', to: 'bob', cents: 70, reference: 'invoice-1' };
    expect(await pay(payment)).toMatchObject({ status: 201, body: { from: 30, to: 70 } });
    expect(await pay(payment)).toMatchObject({
      status: 409,
      body: { code: 'INSUFFICIENT_FUNDS', detail: 'The balance is too low' },
    });
    expect(await example.send('GET', '/payments/pending')).toMatchObject({
      status: 200,
      body: { transfers: [] },
    });
    expect(await client.mget('account:{alice}', 'account:{bob}')).toEqual(['30', '70']);
  });
});
