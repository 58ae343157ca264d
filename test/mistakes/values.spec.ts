import type { Redis } from 'ioredis';
import type { ValueService } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { useAtomicRedis } from './app.js';
import { useMistake } from './mistakes.js';

describe('[DOC-2] a time to live that SET loses', () => {
  const redis = useRedis();
  const atomic = useAtomicRedis(() => ({ connection: redis.server.url, namespace: 'atomic:' }));
  interface Adding<Service> {
    addToCart(service: Service, session: string, sku: string): Promise<void>;
  }
  const mistake = useMistake<Adding<Redis>, Adding<ValueService>>('A time to live lost by SET');

  beforeEach(() => redis.client.set('session', '[]', 'EX', 1_000));

  it('leaves a session that never ends', async () => {
    await mistake.wrong.addToCart(redis.client, 'session', 'tea');
    expect(await redis.client.pttl('session')).toBe(-1);
  });

  it('is kept by compareAndSet, and so is the field that another tab adds', async () => {
    const { values } = atomic.services;
    await Promise.all(['tea', 'jam'].map((sku) => mistake.right.addToCart(values, 'session', sku)));
    expect(await redis.client.pttl('session')).toBeGreaterThan(900_000);
    expect((JSON.parse((await redis.client.get('session'))!) as string[]).toSorted()).toEqual(['jam', 'tea']);
  });
});
