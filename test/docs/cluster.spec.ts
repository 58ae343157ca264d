import { useExample } from './examples.js';

describe('the example of docs/cluster.md', () => {
  const { redis, send } = useExample('docs/cluster.md');

  it('moves between two keys of one slot, and refuses an id that could not be a hash tag', async () => {
    await redis.client.set('wallet:{ada}:cash', '10');
    const saved = await send('POST', '/wallets/ada/savings', { amount: 4 });
    expect(saved.body).toEqual({ from: 6, to: 4 });
    expect((await send('POST', '/wallets/a{}/savings', { amount: 4 })).status).toBe(500);
  });
});
