import { countCommands } from './command-stats.js';
import { useRedis } from './redis.js';

describe('countCommands', () => {
  const redis = useRedis();

  it('counts the commands sent meanwhile, including those of scripts, with subcommands under one name', async () => {
    const { client } = redis;
    await client.get('before');
    const counts = await countCommands(client, async () => {
      await client.multi().incr('n').incr('n').exec();
      await client.eval("return redis.call('GET', KEYS[1])", 1, 'n');
      await client.object('ENCODING', 'n');
      await client.ping();
    });
    expect(counts).toEqual({ multi: 1, incr: 2, exec: 1, eval: 1, get: 1, object: 1 });
    expect(await countCommands(client, () => {})).toEqual({});
  });

  it.each([1, 2])('finds the server empty, test %i', async () => {
    expect(await redis.client.incr('left behind')).toBe(1);
  });
});
