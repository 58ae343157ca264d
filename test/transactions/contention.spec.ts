import { KeyedQueueLock } from '../../lib/transactions/keyed-queue-lock.js';
import { contend } from '../soak/contention.js';
import { useRedis } from '../support/redis.js';

describe('transactions of several processes on one key', () => {
  const redis = useRedis();

  it('[TX-13] count every increment and starve no transaction, within the default number of attempts', async () => {
    const { counted, failed, max } = await contend({
      url: redis.server.url,
      key: 'counter',
      workers: 4,
      callers: 16,
      increments: 50,
    });
    expect(failed).toEqual([]);
    expect(counted).toBe(4 * 16 * 50);
    expect(await redis.client.get('counter')).toBe(String(counted));
    expect(max).toBeLessThanOrEqual(50);
  });
});

describe('a turn on a key', () => {
  it.each([
    ['before', true],
    ['after', false],
  ])(
    'lasts as long as its round trips take, told %s others wait, while other turns keep the usual length',
    async (_, isToldBefore) => {
      const locks = new KeyedQueueLock<never>();
      const takes = (): boolean => false;
      const slow = await locks.take(['far'], takes);
      if (isToldBefore) slow.lastAtLeast(60_000);
      let isTaken = false;
      const behindSlow = Promise.resolve(locks.take(['far'], takes)).then((turn) => {
        isTaken = true;
        return turn;
      });
      if (!isToldBefore) slow.lastAtLeast(60_000);
      await locks.take(['near'], takes);
      // This one begins when the time of a usual turn has passed, which began after the slow one.
      const behindUsual = await locks.take(['near'], takes);
      expect(isTaken).toBe(false);
      slow.end();
      (await behindSlow).end();
      behindUsual.end();
    },
  );
});
