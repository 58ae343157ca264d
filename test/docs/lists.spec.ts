import { useExample } from './examples.js';

describe('the example of docs/lists.md', () => {
  const { redis, send } = useExample('docs/lists.md');

  it('seats guests in turn, or waits for one', async () => {
    await redis.client.rpush('{bistro}:waiting', 'ada', 'grace');
    expect((await send('POST', '/tables/bistro')).body).toEqual({ guest: 'ada' });
    expect((await send('POST', '/tables/bistro')).body).toEqual({ guest: 'grace' });
    expect((await send('POST', '/tables/bistro')).body).toEqual({ guest: null });
    expect((await send('GET', '/tables/bistro')).body).toEqual({ guest: null });
    expect(await redis.client.lrange('{bistro}:seated', 0, -1)).toEqual(['ada', 'grace']);
  });
});
