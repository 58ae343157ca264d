import type { TestingModule } from '@nestjs/testing';
import { Redis } from 'ioredis';
import { AtomicRedis, AtomicRedisError, LeaseLostError } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { inLine } from '../permits/permits-app.js';
import { startSentinelGroup, type SentinelGroup } from '../support/sentinel.js';
import { waitFor } from '../support/wait-for.js';

const PATIENT = { timeoutMs: 20_000 } as const;
const DURABLE = { ...PATIENT, durability: { replicas: 1, timeoutMs: 20_000 } } as const;

describe('a Sentinel group whose master is killed', () => {
  const boot = useApp();
  let group: SentinelGroup;
  let app: TestingModule;
  let redis: AtomicRedis;
  let client: Redis;

  beforeAll(async () => {
    group = await startSentinelGroup();
    app = await boot({ connection: group.connection });
    redis = app.get(AtomicRedis);
    client = new Redis(group.connection);
    client.on('error', () => {});
  });

  afterAll(async () => {
    client?.disconnect();
    await group?.stop();
  });

  /**
   * Makes the step again and again, by several callers, until the master has been killed and
   * another one answers. Steps end within their time-outs.
   *
   * @returns how many are sure to be there, and how many may be
   */
  async function during(
    step: (options: object) => Promise<unknown>,
  ): Promise<{ replicated: number; mayBe: number }> {
    await group.settled();
    let [replicated, mayBe] = [0, 0];
    // The kill cannot lose anything that replicas had before it.
    for (let i = 0; i < 20; i++, replicated++, mayBe++) await step(DURABLE);
    let over = false;
    const failed: unknown[] = [];
    const caller = async (): Promise<void> => {
      while (!over) {
        try {
          await step(PATIENT);
          mayBe++;
        } catch (error) {
          failed.push(error);
          if (!(error instanceof AtomicRedisError) || error.outcome !== 'not-applied') mayBe++;
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    const callers = Promise.all([caller(), caller(), caller()]);
    try {
      await group.failOver();
    } finally {
      over = true;
      await callers;
    }
    for (const error of failed) expect(error).toBeInstanceOf(AtomicRedisError);
    // The new master serves.
    await step(PATIENT);
    return { replicated: replicated + 1, mayBe: mayBe + 1 };
  }

  it('[SRV-8] loses and repeats no transaction', async () => {
    const { replicated, mayBe } = await during((options) =>
      redis.transactions.run(
        ['n'],
        async (tx) => {
          tx.write.set('n', Number(await tx.read.get('n')) + 1);
        },
        options,
      ),
    );
    const value = Number(await client.get('n'));
    expect(value).toBeGreaterThanOrEqual(replicated);
    expect(value).toBeLessThanOrEqual(mayBe);
  });

  it('[SRV-8] loses and repeats no idempotent run', async () => {
    const runs = new Map<string, number>();
    const keys: string[] = [];
    const run = (key: string, options: object): Promise<number> =>
      redis.idempotency.run(
        key,
        () => {
          runs.set(key, (runs.get(key) ?? 0) + 1);
          return Promise.resolve(7);
        },
        options,
      );
    const { replicated } = await during(async (options) => {
      const key = `order:${keys.length}`;
      keys.push(key);
      await run(key, options);
    });
    for (const key of keys) expect(runs.get(key) ?? 0).toBeLessThanOrEqual(1);
    // Asked again at the new master: what a replica had is replayed.
    for (const key of keys.slice(0, replicated - 1)) {
      expect(await run(key, PATIENT)).toBe(7);
      expect(runs.get(key)).toBe(1);
    }
  });

  it('[SRV-8] loses and repeats no counter operation', async () => {
    const { replicated, mayBe } = await during((options) => redis.counters.add('count', 1, options));
    const value = Number(await client.get('count'));
    expect(value).toBeGreaterThanOrEqual(replicated);
    expect(value).toBeLessThanOrEqual(mayBe);
  });

  it('[SRV-8] keeps several limits exact together', async () => {
    const both = (['fixed', 'sliding'] as const).map((algorithm) => ({
      key: 'quota',
      algorithm,
      limit: 1_000_000,
      perMs: 31_536_000_000,
    }));
    const { replicated, mayBe } = await during((options) => redis.limits.take(both, options));
    const [fixed, sliding] = (await redis.limits.peek(both, PATIENT)).limits.map(
      ({ limit, remaining }) => limit - remaining,
    );
    expect(fixed).toBe(sliding);
    expect(fixed).toBeGreaterThanOrEqual(replicated);
    expect(fixed).toBeLessThanOrEqual(mayBe);
  });

  it('[SRV-8] keeps replicated permits held, and waiting callers in their order', async () => {
    await group.settled();
    const terms = { ...PATIENT, leaseMs: 60_000 };
    const first = await redis.permits.acquire('p', terms);
    const write = () =>
      redis.transactions.run(['k'], (tx) => void tx.write.set('k', '1'), { ...PATIENT, permit: first });
    const served: number[] = [];
    const fences = [first.fence];
    const wait = async (place: number): Promise<void> => {
      const permit = await redis.permits.acquire('p', { ...terms, waitMs: 120_000 });
      served.push(place);
      fences.push(permit.fence);
      await permit.release();
    };
    const waiting: Promise<void>[] = [];
    for (let place = 1; place <= 3; place++) {
      waiting.push(wait(place));
      await waitFor('it to stand in line', async () => (await inLine(client)) === place);
    }
    await client.set('known', '1');
    expect(await client.wait(1, 20_000)).toBe(1);
    await group.failOver();
    await write();
    expect(await redis.permits.tryAcquire('p', PATIENT)).toBeNull();
    // A failover takes longer than they are taken to be alive for.
    await waitFor('them to say that they still wait', async () => {
      const state = await client.hgetall('atomic:permits:{p}:p');
      const alive = Object.entries(state).filter(
        ([field, text]) => field[0] === 'w' && parseInt(text) > Date.now(),
      );
      return alive.length === 3;
    });
    expect(await first.release()).toBe(true);
    await Promise.all(waiting);
    expect(served).toEqual([1, 2, 3]);
    expect(fences).toEqual(fences.toSorted((a, b) => a - b));
    expect(new Set(fences).size).toBe(4);
    await expect(write()).rejects.toThrow(LeaseLostError);
  });

  it('[SRV-8] loses and repeats no transfer', async () => {
    // Not to a former master that is about to be told that it is a replica: what it is given then
    // is lost.
    await group.settled();
    await client.set('{t}:a', '100000');
    const { replicated, mayBe } = await during((options) =>
      redis.transfers.transfer({ from: '{t}:a', to: '{t}:b', amount: 1, min: 0 }, options),
    );
    const [from, to] = (await client.mget('{t}:a', '{t}:b')).map(Number);
    expect(from! + to!).toBe(100_000);
    expect(to).toBeGreaterThanOrEqual(replicated);
    expect(to).toBeLessThanOrEqual(mayBe);
  });
});
