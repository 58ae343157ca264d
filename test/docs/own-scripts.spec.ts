import { useExample } from './examples.js';

describe('the example of docs/own-scripts.md', () => {
  const example = useExample('docs/own-scripts.md');

  it('lets as many calls pass as there are tokens, for each user', async () => {
    const send = (user: string) => example.send('POST', `/mails/${user}`);
    const answers = await Promise.all(Array.from({ length: 10 }, () => send('anna')));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(3);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(7);
    expect((await send('ben')).status).toBe(201);
    expect(await example.redis.client.pttl('bucket:{anna}')).toBeGreaterThan(60_000);
  });

  it('adds a token at each refill', async () => {
    const { client } = example.redis;
    const [seconds] = await client.time();
    await client.hset('bucket:{anna}', { tokens: 0, at: (Number(seconds) - 130) * 1000 });
    const send = async () => (await example.send('POST', '/mails/anna')).status;
    expect([await send(), await send(), await send()]).toEqual([201, 201, 429]);
  });
});
