import { execFileSync } from 'node:child_process';
import { Redis } from 'ioredis';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { useAtomicRedis } from '../mistakes/app.js';
import { useRedis } from '../support/redis.js';

const binary = process.env.TEST_REDIS_BINARY ?? 'redis-server';
const version = execFileSync(binary, ['--version'], { encoding: 'utf8' });
/** Redis has other forms of these commands. */
const hasThem = Number(/^Valkey server v=(\d+)/.exec(version)?.[1]) >= 9;

(hasThem ? describe : describe.skip)('a native compare-and-set whose reply is lost', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let client: Redis;
  beforeAll(async () => void (proxy = await startFaultProxy({ target: redis.server })));
  afterAll(() => proxy.stop());
  beforeEach(async () => {
    await redis.client.set('leader', 'a');
    client = new Redis(proxy.url);
    await client.ping();
  });
  afterEach(() => client.disconnect());
  const atomic = useAtomicRedis(() => ({ connection: proxy.url, namespace: 'atomic:' }));

  it('SET IFEQ has written but reports that it has not', async () => {
    const fault = proxy.loseReplies({ match: ({ name }) => name === 'SET' });
    expect(await client.call('SET', 'leader', 'b', 'IFEQ', 'a')).toBeNull();
    expect(fault.count).toBe(1);
    expect(await redis.client.get('leader')).toBe('b');
  });

  it('DELIFEQ has deleted but reports that it has not', async () => {
    const fault = proxy.loseReplies({ match: ({ name }) => name === 'DELIFEQ' });
    expect(await client.call('DELIFEQ', 'leader', 'a')).toBe(0);
    expect(fault.count).toBe(1);
    expect(await redis.client.exists('leader')).toBe(0);
  });

  it('SET IFEQ that arrives late writes although its caller has given up', async () => {
    const sent: [string, ...string[]] = ['SET', 'leader', 'b', 'IFEQ', 'a'];
    const late = proxy.deliverLate(0, { match: ({ name }) => name === 'SET' });
    const careful = new Redis(proxy.url, { maxRetriesPerRequest: 0, retryStrategy: () => null });
    careful.on('error', () => undefined);
    try {
      await expect(careful.call(...sent)).rejects.toThrow('Connection is closed');
      await late.delivered;
    } finally {
      careful.disconnect();
    }
    expect(await redis.client.get('leader')).toBe('b');
  });

  it('compareAndSet and compareAndDelete repeat their first answer', async () => {
    const { values } = atomic.services;
    const match = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' };
    const first = proxy.loseReplies(match);
    expect(await values.compareAndSet('leader', 'a', 'b')).toEqual({ swapped: true, current: 'b' });
    const second = proxy.loseReplies(match);
    expect(await values.compareAndDelete('leader', 'b')).toMatchObject({ deleted: true });
    expect([first.count, second.count]).toEqual([1, 1]);
  });
});
