import { useExample } from './examples.js';

describe('the example of docs/health.md', () => {
  const { redis, send } = useExample('docs/health.md');

  it('is up, and down while Redis is silent', async () => {
    expect(await send('GET', '/health')).toMatchObject({
      status: 200,
      body: { status: 'ok', details: { redis: { status: 'up' } } },
    });
    redis.server.pause();
    const down = await send('GET', '/health');
    redis.server.resume();
    expect(down).toMatchObject({ status: 503, body: { error: { redis: { status: 'down' } } } });
  });
});
