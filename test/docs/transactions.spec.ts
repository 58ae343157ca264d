import { useExample } from './examples.js';

describe('docs/transactions.md', () => {
  const example = useExample('docs/transactions.md');

  it('loses no deposit and overdraws no account', async () => {
    const send = (what: string, amount: number) => example.send('POST', `/accounts/7/${what}`, { amount });
    await Promise.all(Array.from({ length: 50 }, () => send('deposits', 2)));
    const withdrawals = await Promise.all(Array.from({ length: 150 }, () => send('withdrawals', 1)));
    expect(withdrawals.filter(({ status }) => status === 201)).toHaveLength(100);
    expect(withdrawals.filter(({ status }) => status === 409)).toHaveLength(50);
    expect(await example.redis.client.get('account:{7}:balance')).toBe('0');
    expect(await example.redis.client.llen('account:{7}:history')).toBe(150);
  });
});
