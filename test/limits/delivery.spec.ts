import type { TestingModule } from '@nestjs/testing';
import { LimitService, OutcomeUnknownError, RedisUnavailableError, type Limit } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { leaveLapsed } from './lapsed-reservations.js';

/** Nothing of it becomes free while a test runs. */
const QUOTA: Limit = { key: 'quota', algorithm: 'fixed', limit: 1_000, perMs: 31_536_000_000 };
const TIME_MS = 20_000;

describe('limits over connections that fail', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let apps: TestingModule[];
  /** Reaches Redis through the proxy. */
  let limits: LimitService;
  /** Another process, straight to Redis. */
  let other: LimitService;

  const start = (connection: string): Promise<TestingModule> => boot({ connection, timeoutMs: TIME_MS });

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    apps = await Promise.all([start(proxy.url), start(redis.server.url)]);
    [limits, other] = apps.map((app) => app.get(LimitService)) as [LimitService, LimitService];
  });

  afterEach(async () => {
    await Promise.all(apps.map((app) => app.close()));
    await proxy.stop();
  });

  const used = async (limit: Limit = QUOTA): Promise<number> =>
    limit.limit - (await other.peek(limit)).remaining;

  it('[LM-8] take once when the reply is lost, and return that run’s answer', async () => {
    const lost = proxy.loseReplies(isScript);
    proxy.refuseConnections(true);
    const taking = Promise.all([limits.take({ ...QUOTA, cost: 600 }), limits.take({ ...QUOTA, cost: 600 })]);
    await waitFor('the first', async () => (await used()) === 600);
    await other.take({ ...QUOTA, cost: 100 });
    proxy.refuseConnections(false);
    expect(await taking).toMatchObject([
      { allowed: true, remaining: 400 },
      { allowed: false, remaining: 400 },
    ]);
    expect(lost.count).toBe(1);
    expect(await used()).toBe(700);
  });

  it('[LM-8] take from all of several limits or from none when the reply is lost', async () => {
    const second: Limit = { ...QUOTA, key: 'second', algorithm: 'sliding' };
    for (let i = 0; i < 5; i++) {
      proxy.loseReplies(isScript);
      expect((await limits.take([QUOTA, second])).allowed).toBe(true);
    }
    expect([await used(), await used(second)]).toEqual([5, 5]);
  });

  it('[LM-8] take once when the server never saw the call, and when it has forgotten the script', async () => {
    proxy.cutBeforeServer(isScript);
    expect((await limits.take(QUOTA)).remaining).toBe(999);
    await redis.client.script('FLUSH');
    expect((await limits.take(QUOTA)).remaining).toBe(998);
    expect(await used()).toBe(2);
  });

  it('[LM-8] take nothing by a copy that arrives late or after a newer batch', async () => {
    const late = proxy.deliverLate(300, isScript);
    expect((await limits.take(QUOTA)).remaining).toBe(999);
    expect((await limits.take(QUOTA)).remaining).toBe(998);
    await late.delivered;
    expect(await used()).toBe(2);
  });

  it('[LM-8] take nothing by a call that arrives after its time-out, and its caller gets an unknown outcome', async () => {
    const late = proxy.deliverLate(1_500, isScript);
    proxy.refuseConnections(true);
    await expect(limits.take(QUOTA, { timeoutMs: 300 })).rejects.toThrow(OutcomeUnknownError);
    await late.delivered;
    expect(await used()).toBe(0);
  });

  it('[LM-8] take nothing by a call after its own time-out, even if others of its batch have more time', async () => {
    await limits.peek(QUOTA);
    const late = proxy.deliverLate(1_500, isScript);
    proxy.refuseConnections(true);
    const lasting = limits.take(QUOTA);
    // One is equal to the lasting call but for its time; the other travels as a part of its own.
    const short = [QUOTA, { ...QUOTA, cost: 100 }].map((limit) => limits.take(limit, { timeoutMs: 300 }));
    for (const call of short) await expect(call).rejects.toThrow(OutcomeUnknownError);
    await late.delivered;
    await waitFor('the batch', async () => (await used()) > 0);
    expect(await used()).toBe(1);
    proxy.refuseConnections(false);
    expect((await lasting).remaining).toBe(999);
  });

  it('[LM-8] report that nothing was taken when nothing was sent', async () => {
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    await waitFor('the loss', () => !apps[0]!.get(RedisConnection).isReady);
    const refused = await limits.take(QUOTA, { timeoutMs: 200 }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(RedisUnavailableError);
    expect(refused).toMatchObject({ outcome: 'not-applied', retryable: true });
    proxy.refuseConnections(false);
    expect((await limits.take(QUOTA)).remaining).toBe(999);
  });

  it('[LM-8] report an unanswered peek as unavailable, even one that was giving back lapsed reservations', async () => {
    await other.reserve(QUOTA, { ttlMs: QUOTA.perMs });
    await leaveLapsed(redis.client, QUOTA, 1_001);
    proxy.loseReplies({ match: ({ name, args }) => name === 'EVALSHA' && args[0]!.length > 0 });
    proxy.refuseConnections(true);
    await expect(limits.peek(QUOTA, { timeoutMs: 1_500 })).rejects.toThrow(RedisUnavailableError);
    expect(await used()).toBe(1);
  });

  it('[LM-8] without a marker, report a lost reply as unknown at once and send nothing again', async () => {
    await limits.peek(QUOTA);
    const counts = await countCommands(redis.client, async () => {
      proxy.loseReplies(isScript);
      await expect(limits.take(QUOTA, { deduplicate: false })).rejects.toThrow(OutcomeUnknownError);
    });
    expect(counts['evalsha']).toBe(1);
    expect(await redis.client.keys('atomic:producer:*')).toEqual([]);
  });

  it('[LM-8] accept exactly the limit under many lost replies, and every caller gets its own answer', async () => {
    proxy.loseReplies({ ...isScript, times: 12 });
    const results = await Promise.all(
      Array.from({ length: 300 }, async (_, i) => {
        // Over several ticks, for many batches.
        for (let tick = 0; tick < i / 15; tick++) await new Promise(setImmediate);
        return (i % 2 ? limits : other).take({ ...QUOTA, limit: 200 });
      }),
    );
    expect(results.filter(({ allowed }) => allowed)).toHaveLength(200);
    const remaining = results.filter(({ allowed }) => allowed).map((result) => result.remaining);
    expect(remaining.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, i) => i));
  });
});
