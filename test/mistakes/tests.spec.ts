import { useRedis } from '../support/redis.js';
import { useAtomicRedis } from './app.js';
import { useMistake } from './mistakes.js';

interface Test {
  sellsWhatIsThere(buy: () => Promise<boolean>, stock: () => Promise<number>): Promise<void>;
}

describe('[DOC-2] tests that call sequentially', () => {
  const redis = useRedis();
  const atomic = useAtomicRedis(() => ({ connection: redis.server.url, namespace: 'atomic:' }));
  const mistake = useMistake<Test, Test>('Tests that call one after the other');
  const stock = async (): Promise<number> => Number(await redis.client.get('stock'));
  const naive = async (): Promise<boolean> => {
    if ((await stock()) < 1) return false;
    await redis.client.decr('stock');
    return true;
  };
  const bounded = async (): Promise<boolean> =>
    !(await atomic.services.counters.add('stock', -1, { min: 0 })).limited;

  beforeEach(() => redis.client.set('stock', 10));

  it('pass with wrong code', async () => {
    await expect(mistake.wrong.sellsWhatIsThere(naive, stock)).resolves.toBeUndefined();
  });

  it('fail with wrong code when they call concurrently', async () => {
    await expect(mistake.right.sellsWhatIsThere(naive, stock)).rejects.toThrow(/deep-equal/);
    expect(await stock()).toBe(-10);
  });

  it('pass with correct code', async () => {
    await expect(mistake.right.sellsWhatIsThere(bounded, stock)).resolves.toBeUndefined();
  });
});
