import { setTimeout as sleep } from 'node:timers/promises';
import type { TransactionService } from '../../lib/index.js';
import { startFaultProxy, type FaultProxy, type RedisCommand } from '../../lib/testing/index.js';
import { useBoot } from '../support/boot.js';
import { countCommands } from '../support/command-stats.js';
import { holdRequest } from '../support/hold-request.js';
import { useRedis } from '../support/redis.js';
import { startSlowLink } from '../support/slow-link.js';

const LARGE = 'x'.repeat(6_000_000);
const BYTES_PER_SECOND = 2_000_000;
const PATIENT_MS = 30_000;

describe('an EXEC that is not answered at once', () => {
  const redis = useRedis();
  const { boot } = useBoot();
  let proxy: FaultProxy;
  let transactions: TransactionService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    ({
      redis: { transactions },
    } = await boot({ namespace: 'atomic:', connection: proxy.url, shutdownTimeoutMs: 1_000 }));
    await transactions.run(['k'], (tx) => void tx.write.set('k', 'before'));
  });
  afterEach(async () => {
    redis.server.resume();
    await proxy.stop();
  });

  /** Sets `k`, and tells what `onReplies` received. */
  const set = async (value: string, timeoutMs: number, by = transactions): Promise<unknown[]> => {
    const told: unknown[] = [];
    await by.run(['k'], (tx) => void tx.write.getset('k', value), {
      timeoutMs,
      onReplies: (replies) => told.push(replies && [...replies]),
    });
    return told;
  };

  it('[TX-19] is not given up while 6 MB pass a line of 2 MB/s', async () => {
    proxy.limitSpeed(BYTES_PER_SECOND);
    const counts = await countCommands(redis.client, async () => {
      expect(await set(LARGE, PATIENT_MS)).toEqual([['before']]);
    });
    expect(counts['exec']).toBe(1);
  }, 60_000);

  it('[TX-19] is not given up while a reply of 6 MB passes a line of 2 MB/s', async () => {
    const link = await startSlowLink(redis.server, BYTES_PER_SECOND);
    const { redis: services } = await boot({
      namespace: 'atomic:',
      connection: link.url,
      shutdownTimeoutMs: 1_000,
    });
    await redis.client.set('k', LARGE);
    const counts = await countCommands(redis.client, async () => {
      const [replies] = await set('after', PATIENT_MS, services.transactions);
      // Not printed.
      expect((replies as string[])[0] === LARGE).toBe(true);
    });
    expect(counts['exec']).toBe(1);
    await link.stop();
  }, 60_000);

  it('[TX-19] is not given up beyond half of its time while bytes move', async () => {
    proxy.limitSpeed(BYTES_PER_SECOND / 2);
    const counts = await countCommands(redis.client, async () => {
      // They need six seconds.
      expect(await set(LARGE, 10_000)).toEqual([['before']]);
    });
    expect(counts['exec']).toBe(1);
  }, 60_000);

  it('[TX-19] returns its reply from a Redis that is stopped for 4 seconds', async () => {
    const running = set('after', PATIENT_MS);
    await holdRequest(proxy, { match: ({ name }: RedisCommand) => name === 'EXEC' }, async () =>
      redis.server.pause(),
    );
    await sleep(4_000);
    redis.server.resume();
    expect(await running).toEqual([['before']]);
  }, 60_000);

  it('[TX-19] is resolved on a dead connection long before its deadline', async () => {
    proxy.blackHole({ match: ({ name }: RedisCommand) => name === 'EXEC', deliver: true });
    const began = performance.now();
    // The replies are lost.
    expect(await set('after', 60_000)).toEqual([null]);
    expect(performance.now() - began).toBeLessThan(15_000);
    expect(await redis.client.get('k')).toBe('after');
  }, 90_000);
});
