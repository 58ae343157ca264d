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

  it('[ID-15] replays without asking Redis, to the same payload only, and what was changed meanwhile as it was', async () => {
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

  it('[ID-15] learns what another process completed, and never what runs', async () => {
    const [first, second] = await Promise.all([instances.start(), instances.start()]);
    await first.idempotency.run('k', async () => {
      await expect(second.idempotency.run('k', () => 2)).rejects.toThrow('still running');
      return 1;
    });
    const ask = () => second.idempotency.run('k', () => 2);
    expect((await countCommands(redis.client, ask)).evalsha).toBe(1);
    expect((await countCommands(redis.client, ask)).evalsha).toBeUndefined();
  });

  it('[ID-15] keeps within its bytes, and no longer than its time and the record’s', async () => {
    const { idempotency } = await instances.start({
      idempotency: { replayCache: { maxBytes: 20_000, ttlMs: 1_500 } },
    });
    const run = (key: string, ttlMs = 60_000) => idempotency.run(key, () => 'x'.repeat(4_000), { ttlMs });
    const asks = async (key: string) =>
      ((await countCommands(redis.client, () => run(key))).evalsha ?? 0) > 0;
    for (let i = 0; i < 10; i++) await run(`k${i}`);
    expect(await asks('k9')).toBe(false);
    expect(await asks('k0')).toBe(true);
    await waitFor('the end of its time', () => asks('k9'));
    await run('short', 100);
    let ran = false;
    await waitFor('the end of the record', async () => {
      await idempotency.run('short', () => (ran = true), { ttlMs: 100 });
      return ran;
    });
  });

  it('[ID-15] [ID-16] forgets what is forgotten', async () => {
    const { idempotency } = await instances.start();
    await idempotency.run('k', () => 1);
    expect(await idempotency.forget('k')).toBe(true);
    expect(await idempotency.run('k', () => 2)).toBe(2);
  });

  it('[ID-15] gives each caller bytes of its own', async () => {
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

  it('[ID-15] [ID-16] keeps nothing of what was forgotten while it was on its way', async () => {
    const [other, { idempotency }] = [await instances.start(), await instances.start()];
    await other.idempotency.run('k', () => 'old');
    // Answered only when no replica has come to have it.
    const options = { timeoutMs: 10_000, durability: { replicas: 1, timeoutMs: 1_000 } };
    const replay = idempotency.run('k', () => 'early', options);
    await waitFor('the claim', async () => String(await redis.client.client('LIST')).includes('cmd=wait'));
    expect(await idempotency.forget('k')).toBe(true);
    expect(await replay).toBe('old');
    expect(await idempotency.run('k', () => 'new')).toBe('new');
  });
});
