import { Redis } from 'ioredis';
import type { CounterService } from 'nestjs-atomic-redis';
import { startFaultProxy, type Fault, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useRedis } from '../support/redis.js';
import { useAtomicRedis } from './app.js';
import { useMistake } from './mistakes.js';

describe('[DOC-2] a command that is sent again after a lost reply', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  beforeAll(async () => void (proxy = await startFaultProxy({ target: redis.server })));
  afterAll(() => proxy.stop());
  const atomic = useAtomicRedis(() => ({ connection: proxy.url, namespace: 'atomic:' }));
  const mistake = useMistake<
    { countVisit(redis: Redis, page: string): Promise<number> },
    { countVisit(counters: CounterService, page: string): Promise<{ value: number }> }
  >('Sent again after a lost reply');

  let client: Redis;
  beforeEach(() => void (client = new Redis(proxy.url)));
  afterEach(() => client.disconnect());

  const lose = (command: string): Fault => proxy.loseReplies({ match: ({ name }) => name === command });

  it('is counted twice, and the second answer looks like the first', async () => {
    await client.ping();
    const fault = lose('INCR');
    expect(await mistake.wrong.countVisit(client, 'home')).toBe(2);
    expect(fault.count).toBe(1);
    expect(await redis.client.get('visits:home')).toBe('2');
  });

  it.each<[string, (client: Redis) => Promise<unknown>]>([
    ['RPUSH', async (c) => await c.rpush('list', 'a')],
    ['EVAL', async (c) => await c.eval("return redis.call('RPUSH', KEYS[1], 'a')", 1, 'list')],
    ['MULTI', async (c) => await c.multi().rpush('list', 'a').exec()],
  ])('is applied twice when it is %s', async (command, send) => {
    await client.ping();
    lose(command);
    await send(client);
    expect(await redis.client.lrange('list', 0, -1)).toEqual(['a', 'a']);
  });

  it('fails without saying whether it was counted when it is not sent again', async () => {
    const careful = new Redis(proxy.url, { maxRetriesPerRequest: 0 });
    try {
      await careful.ping();
      lose('INCR');
      const lost = await mistake.wrong.countVisit(careful, 'home').catch((error: unknown) => error);
      proxy.cutBeforeServer({ match: ({ name }) => name === 'INCR' });
      await new Promise((resolve) => careful.once('ready', resolve));
      const cut = await mistake.wrong.countVisit(careful, 'home').catch((error: unknown) => error);
      expect(String(lost)).toMatch(/^MaxRetriesPerRequestError/);
      expect(String(cut)).toBe(String(lost));
      expect(await redis.client.get('visits:home')).toBe('1');
    } finally {
      careful.disconnect();
    }
  });

  it('counts once and returns that first answer when the library sends it', async () => {
    const { counters } = atomic.services;
    const fault = lose('EVALSHA');
    expect(await mistake.right.countVisit(counters, 'home')).toMatchObject({ value: 1, applied: 1 });
    expect(fault.count).toBe(1);
    expect(await redis.client.get('visits:home')).toBe('1');
  });
});
