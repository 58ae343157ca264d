import type { TestingModule } from '@nestjs/testing';
import {
  AuditedHashService,
  CrossSlotError,
  OutcomeUnknownError,
  RedisReplyError,
  IllegalTransactionStateError,
  TransactionService,
  WrongTypeError,
  type AuditOptions,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { startClusterBehindProxies } from '../support/cluster-behind-proxies.js';
import { countCommands } from '../support/command-stats.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';

const KEY = 'product:{tea}';
const LOG = 'product:{tea}:log';

describe('an audited hash whose connection fails', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let hashes: AuditedHashService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url, timeoutMs: 10_000 });
    hashes = app.get(AuditedHashService);
  });

  afterEach(() => proxy.stop());

  const length = async (): Promise<number> => (await hashes.history(LOG)).entries.length;

  describe.each(['stream', 'list'] as const)('with a %s', (logType) => {
    const options: AuditOptions<'utf8'> = { log: LOG, logType, actor: 'ada' };

    it('[AUD-5] changes and logs once when the reply is lost, and returns that first answer', async () => {
      await redis.client.hset(KEY, { a: '1', b: '2' });
      const fault = proxy.loseReplies(isScript);
      proxy.refuseConnections(true);
      const changing = hashes.update(KEY, { a: 'x', b: null, c: 'y' }, options);
      await fault.triggered;
      await redis.client.hset(KEY, { a: 'other', b: 'other' });
      proxy.refuseConnections(false);
      expect(await changing).toEqual({ a: '1', b: '2', c: null });
      expect(fault.count).toBe(1);
      expect(await redis.client.hgetall(KEY)).toEqual({ a: 'other', b: 'other', c: 'y' });
      expect(await length()).toBe(3);
    });

    it('[AUD-5] does nothing when a copy arrives after the original was answered', async () => {
      await redis.client.hset(KEY, 'a', '1');
      const late = proxy.deliverLate(300, isScript);
      expect(await hashes.set(KEY, 'a', '2', options)).toBe('1');
      await redis.client.hset(KEY, 'a', 'other');
      expect(await late.delivered).toBe(true);
      expect(await redis.client.hget(KEY, 'a')).toBe('other');
      expect(await length()).toBe(1);
    });

    it('[AUD-5] does nothing when it arrives after its deadline', async () => {
      const late = proxy.deliverLate(600, isScript);
      proxy.refuseConnections(true);
      await expect(hashes.set(KEY, 'a', '2', { ...options, timeoutMs: 200 })).rejects.toThrow(
        OutcomeUnknownError,
      );
      expect(await late.delivered).toBe(true);
      expect(await redis.client.keys('*')).toEqual([]);
    });

    it('[AUD-5] repeats its refusal of a log of another type, even after the type was corrected', async () => {
      await redis.client.set(LOG, 'a');
      const fault = proxy.loseReplies(isScript);
      proxy.refuseConnections(true);
      const changing = Promise.allSettled([hashes.set(KEY, 'a', '1', options)]);
      await fault.triggered;
      await redis.client.del(LOG);
      proxy.refuseConnections(false);
      expect(await changing).toMatchObject([{ reason: expect.any(WrongTypeError) }]);
      expect(await redis.client.exists(KEY, LOG)).toBe(0);
    });

    it('[AUD-6] takes one round trip', async () => {
      const counts = await countCommands(redis.client, () => hashes.set(KEY, 'a', '1', options));
      expect(counts['evalsha']).toBe(1);
      expect((await countCommands(redis.client, () => hashes.history(LOG)))['evalsha_ro']).toBe(1);
    });

    it.each([true, false])('[AUD-6] does the same with or without a marker (%s)', async (marker) => {
      expect(await hashes.set(KEY, 'a', '1', { ...options, deduplicate: marker })).toBeNull();
      expect(await hashes.delete(KEY, 'a', { ...options, deduplicate: marker })).toBe('1');
      expect(await redis.client.keys('atomic:*')).toHaveLength(marker ? 2 : 0);
      for (const key of await redis.client.keys('atomic:*')) {
        expect(await redis.client.pttl(key)).toBeGreaterThan(0);
      }
    });

    it.each([true, false])(
      '[AUD-6] applies all or nothing when Redis is out of memory (marker: %s)',
      async (marker) => {
        await hashes.update(KEY, { a: '1', b: '2' }, { ...options, deduplicate: marker });
        const state = async (): Promise<unknown> => [
          await redis.client.hgetall(KEY),
          (await hashes.history(LOG)).entries,
          await redis.client.dbsize(),
        ];
        const before = await state();
        await redis.client.config('SET', 'maxmemory', 1);
        try {
          const several: Record<string, string | null>[] = [
            { a: 'x', c: 'y' },
            { a: null },
            { a: null, b: null },
          ];
          for (const changes of several) {
            const refused = hashes.update(KEY, changes, { ...options, deduplicate: marker });
            const error = await refused.catch((thrown: unknown) => thrown);
            expect(error).toBeInstanceOf(RedisReplyError);
            expect(error).toMatchObject({ reply: 'OOM', outcome: 'not-applied' });
            expect(await state()).toEqual(before);
          }
        } finally {
          await redis.client.config('SET', 'maxmemory', 0);
        }
      },
    );

    it('[AUD-1] loses no entry of concurrent changes: old and new values form one chain', async () => {
      await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          if (i % 10 === 0) proxy.loseReplies({ ...isScript, times: 1 });
          await hashes.set(KEY, 'a', String(i), options);
        }),
      );
      const entries = (await hashes.history(LOG, { limit: 1_000 })).entries.toReversed();
      expect(entries).toHaveLength(100);
      expect(new Set(entries.map((entry) => entry.new)).size).toBe(100);
      for (const [i, { old }] of entries.entries()) expect(old).toBe(i === 0 ? null : entries[i - 1]!.new);
      expect(await redis.client.hget(KEY, 'a')).toBe(entries.at(-1)!.new);
    });

    it('[AUD-5] runs once when the server forgets its scripts', async () => {
      for (const expected of [null, '1', '1']) {
        await redis.client.script('FLUSH');
        expect(await hashes.set(KEY, 'a', '1', options)).toBe(expected);
        await redis.client.script('FLUSH');
        await hashes.history(LOG);
      }
      expect(await length()).toBe(3);
    });
  });

  it('waits for replicas when asked to, and returns its result even if they do not acknowledge', async () => {
    const options = { log: LOG, durability: { replicas: 1, timeoutMs: 50 } };
    await redis.client.hset(KEY, 'a', '1');
    const set = await hashes.set(KEY, 'a', '2', options).catch((error: unknown) => error);
    expect(set).toMatchObject({ code: 'NOT_REPLICATED', outcome: 'applied', result: '1' });
    const update = await hashes.update(KEY, { a: null, b: '3' }, options).catch((error: unknown) => error);
    expect(update).toMatchObject({ code: 'NOT_REPLICATED', result: { a: '2', b: null } });
  });

  it('lets a read-only user read a log', async () => {
    await hashes.set(KEY, 'a', '1', { log: LOG });
    await redis.client.acl(
      'SETUSER',
      'auditor',
      'on',
      '>secret',
      '%R~product:*',
      '+@read',
      '+@scripting',
      '+@connection',
      '+info',
    );
    const connection = { host: proxy.host, port: proxy.port, username: 'auditor', password: 'secret' };
    const reading = await boot({ connection });
    try {
      expect((await reading.get(AuditedHashService).history(LOG)).entries).toMatchObject([{ new: '1' }]);
    } finally {
      await reading.close();
      await redis.client.acl('DELUSER', 'auditor');
    }
  });

  it('is refused inside a transaction, where it would be logged once for each attempt', async () => {
    const inside = app.get(TransactionService).run([KEY], () => hashes.set(KEY, 'a', '1', { log: LOG }));
    await expect(inside).rejects.toThrow(IllegalTransactionStateError);
  });

  it('retries the read of a log when the reply was lost, and fails as unavailable, not as unknown', async () => {
    await hashes.set(KEY, 'a', '1', { log: LOG });
    proxy.loseReplies(isScript);
    expect(await length()).toBe(1);
    proxy.loseReplies(isScript);
    proxy.refuseConnections(true);
    await expect(hashes.history(LOG, { timeoutMs: 200 })).rejects.toMatchObject({
      code: 'REDIS_UNAVAILABLE',
    });
  });
});

describe('an audited hash on a Cluster', () => {
  const boot = useApp();
  it('[AUD-4] [AUD-5] changes and logs once when replies are lost, and refuses a log in another slot', async () => {
    const { cluster, proxies, connection, stop } = await startClusterBehindProxies();
    const app = await boot({ connection, timeoutMs: 20_000 });
    try {
      const hashes = app.get(AuditedHashService);
      for (const id of ['a', 'b', 'c', 'd', 'e', 'f']) {
        for (const proxy of proxies) proxy.loseReplies(isScript);
        expect(await hashes.set(`{${id}}`, 'f', '1', { log: `{${id}}:log` })).toBeNull();
        for (const proxy of proxies) proxy.reset();
        expect((await hashes.history(`{${id}}:log`)).entries).toHaveLength(1);
      }
      await expect(hashes.set('{g}', 'f', '1', { log: '{h}:log' })).rejects.toThrow(CrossSlotError);
      const owner = await cluster.masterOf('{g}');
      expect(await owner.client.exists('{g}')).toBe(0);
    } finally {
      await app.close();
      await stop();
    }
  });
});
