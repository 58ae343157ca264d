import { useExample } from './examples.js';

describe('the README’s example', () => {
  const example = useExample('README.md');

  it('deposits once for each idempotency key, and loses no deposit', async () => {
    const deposit = async (key: string): Promise<unknown> =>
      (await example.send('POST', '/accounts/42/deposits', { amount: 5 }, { 'idempotency-key': key })).body;
    expect(await deposit('a')).toEqual({ id: '42', balance: 5 });
    expect(await deposit('a')).toEqual({ id: '42', balance: 5 });
    await Promise.all(Array.from({ length: 20 }, (_, i) => deposit(`b${i}`)));
    expect(await example.redis.client.get('account:{42}')).toBe('105');
  });
});
