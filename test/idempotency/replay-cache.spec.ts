import { IdempotencyMismatchError } from 'nestjs-atomic-redis';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { rawBytes, useInstances } from './support.js';

describe('the replay cache', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({
    connection: redis.server.url,
    namespace: 'atomic:',
    idempotency: { replayCache: { maxBytes: 100_000 } },
  }));

  it('[ID-15] replays without a command to Redis, only for the same payload, and never a value changed by the caller', async () => {
    const { idempotency, events } = await instances.start();
    const first = await idempotency.run('k', () => ({ list: [1] }), { fingerprint: 'a' });
    const counts = await countCommands(redis.client, async () => {
      const again = await idempotency.run('k', () => ({ list: [2] }), { fingerprint: 'a' });
      expect(again).toEqual({ list: [1] });
      again.list.push(9);
      first.list.push(8);
      expect(await idempotency.run('k', () => ({ list: [3] }), { fingerprint: 'a' })).toEqual({ list: [1] });
      await expect(idempotency.run('k', () => 1, { fingerprint: 'b' })).rejects.toThrow(
        IdempotencyMismatchError,
      );
    });
    expect(counts.evalsha).toBeUndefined();
    await waitFor('the events', () => events.length === 4);
    expect(events.slice(1)).toMatchObject([
      { outcome: 'replayed', cached: true },
      { outcome: 'replayed', cached: true },
      { outcome: 'mismatch', cached: true },
    ]);
  });

  it('[ID-15] learns the results of other processes, and never caches a running call', async () => {
    const [first, second] = await Promise.all([instances.start(), instances.start()]);
    await first.idempotency.run('k', async () => {
      await expect(second.idempotency.run('k', () => 2)).rejects.toThrow('still running');
      return 1;
    });
    const ask = () => second.idempotency.run('k', () => 2);
    expect((await countCommands(redis.client, ask)).evalsha).toBe(1);
    expect((await countCommands(redis.client, ask)).evalsha).toBeUndefined();
  });

  it('[ID-15] stays within its bytes, its time, and the time of the record', async () => {
    const start = async (ttlMs: number) =>
      (await instances.start({ idempotency: { replayCache: { maxBytes: 20_000, ttlMs } } })).idempotency;
    const [lasting, brief] = [await start(600_000), await start(300)];
    const run = (key: string, by = lasting) => by.run(key, () => 'x'.repeat(4_000), { ttlMs: 600_000 });
    const asks = async (key: string, by = lasting) =>
      ((await countCommands(redis.client, () => run(key, by))).evalsha ?? 0) > 0;
    for (let i = 0; i < 10; i++) await run(`k${i}`);
    expect(await asks('k9')).toBe(false);
    expect(await asks('k0')).toBe(true);
    await run('k9', brief);
    await waitFor('the end of its time', () => asks('k9', brief));
    let ran = 0;
    await waitFor('the end of the record', async () => {
      await lasting.run('short', () => void ran++, { ttlMs: 100 });
      return ran === 2;
    });
  });

  it('[ID-15] [ID-16] drops a forgotten key', async () => {
    const { idempotency } = await instances.start();
    await idempotency.run('k', () => 1);
    expect(await idempotency.forget('k')).toBe(true);
    expect(await idempotency.run('k', () => 2)).toBe(2);
  });

  it('[ID-15] gives each caller its own bytes', async () => {
    const { idempotency } = await instances.start({
      idempotency: { codec: rawBytes, replayCache: { maxBytes: 100_000 } },
    });
    const ask = () => idempotency.run('k', () => Buffer.from('secret'));
    for (let i = 0; i < 3; i++) {
      const given = await ask();
      expect(given.toString()).toBe('secret');
      given.fill(i);
    }
  });

  it('[ID-15] [ID-16] stores nothing that was forgotten while its reply was under way', async () => {
    const [other, { idempotency }] = [await instances.start(), await instances.start()];
    await other.idempotency.run('k', () => 'old');
    // Answered only after the replicas' time is over.
    const options = { timeoutMs: 10_000, durability: { replicas: 1, timeoutMs: 3_000 } };
    const replay = idempotency.run('k', () => 'early', options);
    await waitFor('the claim', async () => String(await redis.client.client('LIST')).includes('cmd=wait'));
    expect(await idempotency.forget('k')).toBe(true);
    expect(await replay).toBe('old');
    expect(await idempotency.run('k', () => 'new')).toBe('new');
  });
});
