import { Redis } from 'ioredis';
import type { CounterService } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useRedis } from '../support/redis.js';
import { useAtomicRedis } from './app.js';
import { interrupted, useMistake } from './mistakes.js';

const redis = useRedis();
let proxy: FaultProxy;
beforeAll(async () => void (proxy = await startFaultProxy({ target: redis.server })));
afterAll(() => proxy.stop());
const atomic = useAtomicRedis(() => ({ connection: proxy.url, namespace: 'atomic:' }));

/** A process that dies as soon as it has the reply to `command`: it can send nothing more. */
function dyingAfter(command: 'incr' | 'decr'): Redis {
  const client = new Redis(redis.server.url);
  return interrupted(client, command, () => client.disconnect());
}

describe('[DOC-2] take first, give back later', () => {
  const mistake = useMistake<
    { reserve(redis: Redis, key: string): Promise<void> },
    { reserve(counters: CounterService, key: string): Promise<void> }
  >('Take first, give back later');

  it('loses a piece when the process dies before it gives back', async () => {
    await redis.client.set('stock', 0);
    await expect(mistake.wrong.reserve(dyingAfter('decr'), 'stock')).rejects.toThrow('Connection is closed');
    // A piece is returned, and no customer can buy it.
    await redis.client.incr('stock');
    await expect(mistake.wrong.reserve(redis.client, 'stock')).rejects.toThrow('sold out');
  });

  it('leaves the stock unchanged when replaced by a bound', async () => {
    const { counters } = atomic.services;
    await redis.client.set('stock', 0);
    await expect(mistake.right.reserve(counters, 'stock')).rejects.toThrow('sold out');
    expect(await redis.client.get('stock')).toBe('0');
    await redis.client.incr('stock');
    await mistake.right.reserve(counters, 'stock');
    expect(await redis.client.get('stock')).toBe('0');
  });
});

describe('[DOC-2] INCR, then EXPIRE', () => {
  const mistake = useMistake<
    { allow(redis: Redis, user: string): Promise<boolean> },
    { allow(counters: CounterService, user: string): Promise<boolean> }
  >('INCR, then EXPIRE');

  it('leaves a window that never ends when the process dies in between', async () => {
    await expect(mistake.wrong.allow(dyingAfter('incr'), 'ada')).rejects.toThrow('Connection is closed');
    const allowed: boolean[] = [];
    for (let i = 0; i < 12; i++) allowed.push(await mistake.wrong.allow(redis.client, 'ada'));
    expect(allowed.filter(Boolean)).toHaveLength(9);
    expect(await redis.client.pttl('calls:ada')).toBe(-1);
  });

  it('ends its window, even when the reply is lost, and counts no refused call when replaced by one step', async () => {
    const { counters } = atomic.services;
    const fault = proxy.loseReplies({ match: ({ name }) => name === 'EVALSHA' });
    const allowed = [await mistake.right.allow(counters, 'ada')];
    expect(fault.count).toBe(1);
    expect(await redis.client.pttl('calls:ada')).toBeGreaterThan(0);
    for (let i = 0; i < 12; i++) allowed.push(await mistake.right.allow(counters, 'ada'));
    expect(allowed.filter(Boolean)).toHaveLength(10);
    expect(await redis.client.get('calls:ada')).toBe('10');
  });
});
