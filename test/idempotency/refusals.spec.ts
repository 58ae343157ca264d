import { setTimeout as sleep } from 'node:timers/promises';
import {
  IdempotencyInFlightError,
  IdempotencyMismatchError,
  IdempotencyResultUnavailableError,
  OutcomeUnknownError,
  RedisReplyError,
  RedisUnavailableError,
} from 'nestjs-atomic-redis';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, useInstances } from './support.js';
import { stateOf } from '../support/idempotency-record.js';

describe('idempotent runs while Redis refuses', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));
  const recordOf = async (): Promise<string> => (await redis.client.keys('*idempotency*'))[0]!;
  const isFull = (full: boolean) => redis.client.config('SET', 'maxmemory', full ? 1 : 0);

  afterEach(async () => {
    await isFull(false);
    await redis.client.call('REPLICAOF', 'NO', 'ONE');
  });

  it('[ID-10] run nothing when Redis is out of memory, report that nothing was done, and run afterwards', async () => {
    const { idempotency } = await instances.start();
    await isFull(true);
    const ran = jest.fn(() => 'ran');
    const failure = await idempotency.run('k', ran).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RedisReplyError);
    expect(failure).toMatchObject({ reply: 'OOM', outcome: 'not-applied' });
    expect(ran).not.toHaveBeenCalled();
    await isFull(false);
    expect(await redis.client.dbsize()).toBe(0);
    expect(await idempotency.run('k', ran)).toBe('ran');
  });

  it('[ID-10] return a result that does not fit into memory, and run again when the lease has ended', async () => {
    const { idempotency, events } = await instances.start();
    const fill = async (): Promise<string> => {
      await isFull(true);
      return 'ran';
    };
    const result = await idempotency.run('k', fill, { leaseMs: 3_000 });
    expect(result).toBe('ran');
    await waitFor('the event', () => events.length === 1);
    expect(events).toMatchObject([{ outcome: 'store-failed' }]);
    await expect(idempotency.run('k', () => 'again')).rejects.toThrow(IdempotencyInFlightError);
    await isFull(false);
    expect(await idempotency.run('k', () => 'again', { onDuplicate: 'wait' })).toBe('again');
  });

  it('[ID-10] run nothing at a replica, and continue in time when it becomes a master', async () => {
    const { idempotency } = await instances.start();
    await idempotency.run('warm-up', () => 1);
    // The server follows a missing master: it keeps its data, and refuses to write.
    await redis.client.config('SET', 'replica-serve-stale-data', 'yes');
    await redis.client.call('REPLICAOF', '127.0.0.1', 1);
    const ran = jest.fn(() => 'ran');
    await expect(idempotency.run('k', ran)).rejects.toThrow(RedisUnavailableError);
    expect(ran).not.toHaveBeenCalled();
    await redis.client.call('REPLICAOF', 'NO', 'ONE');
    expect(await idempotency.run('k', ran)).toBe('ran');
  });

  it('[ID-10] store a result that a replica refused, once it is a master again', async () => {
    const { idempotency } = await instances.start();
    const beReplica = async (): Promise<string> => {
      await redis.client.call('REPLICAOF', '127.0.0.1', 1);
      return 'ran';
    };
    expect(await idempotency.run('k', beReplica, { timeoutMs: 1_500 })).toBe('ran');
    await redis.client.call('REPLICAOF', 'NO', 'ONE');
    await waitFor('the result', async () => (await stateOf(redis.client, await recordOf())) === 'done');
    expect(await idempotency.run('k', () => 'again')).toBe('ran');
  });
});

describe('idempotent runs while Redis restarts', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({
    connection: redis.server.url,
    namespace: 'atomic:',
    idempotency: { timeoutMs: 10_000 },
  }));

  it('[SC-1] continue when Redis forgets their scripts between any two steps', async () => {
    const { idempotency, events } = await instances.start();
    const forget = () => redis.client.script('FLUSH');
    for (let n = 0; n < 3; n++) {
      await forget();
      const work = async (): Promise<string> => {
        await forget();
        // Renewed by a script that is not there either.
        await sleep(1_400);
        await forget();
        return `result ${n}`;
      };
      expect(await idempotency.run(`k${n}`, work, { leaseMs: 3_000 })).toBe(`result ${n}`);
      await forget();
      expect(await idempotency.run(`k${n}`, () => 'again')).toBe(`result ${n}`);
      await forget();
      const fail = async (): Promise<void> => {
        await forget();
        throw new Error('gives the key back');
      };
      await expect(idempotency.run(`failing ${n}`, fail)).rejects.toThrow('gives the key back');
      expect(await idempotency.run(`failing ${n}`, () => 'ran')).toBe('ran');
    }
    await waitFor('the events', () => events.length === 12);
    const ends = events.map((event) => 'outcome' in event && event.outcome);
    expect(ends.filter((end) => end === 'completed')).toHaveLength(6);
    expect(ends.filter((end) => end === 'replayed' || end === 'released')).toHaveLength(6);
  });

  it('[ID-8] store their result after a restart without data, if no other call took their key', async () => {
    const { idempotency } = await instances.start();
    const ran = jest.fn(async () => {
      await redis.server.kill();
      await redis.server.restart();
      return 'through a restart';
    });
    expect(await idempotency.run('k', ran)).toBe('through a restart');
    expect(await redis.client.dbsize()).toBe(1);
    expect(await idempotency.run('k', ran)).toBe('through a restart');
    expect(ran).toHaveBeenCalledTimes(1);
  });
});

describe('idempotent runs and time', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));

  afterEach(() => void jest.restoreAllMocks());

  it.each([
    ['an hour ahead', 3_600_000],
    ['an hour back', -3_600_000],
  ])('[ID-8] keep their leases and times to live when the system clock is set %s', async (_, stepMs) => {
    const [stepped, other] = [await instances.start(), await instances.start()];
    const { promise, resolve } = gate();
    let signal: AbortSignal | undefined;
    const running = stepped.idempotency.run(
      'k',
      async (run) => {
        signal = run.signal;
        await promise;
        return 'the one';
      },
      { leaseMs: 3_000 },
    );
    await waitFor('the run', () => signal);
    const clock = Date.now;
    jest.spyOn(Date, 'now').mockImplementation(() => clock.call(Date) + stepMs);
    // Through several renewals.
    const until = performance.now() + 4_000;
    while (performance.now() < until) {
      const refusal = await other.idempotency.run('k', () => 'another').catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(IdempotencyInFlightError);
      expect((refusal as IdempotencyInFlightError).retryAfterMs).toBeLessThanOrEqual(3_000);
      await sleep(100);
    }
    expect(signal!.aborted).toBe(false);
    resolve();
    expect(await running).toBe('the one');
    const [record] = await redis.client.keys('*idempotency*');
    const ttlMs = await redis.client.pttl(record!);
    expect(ttlMs).toBeGreaterThan(86_400_000 - 60_000);
    expect(ttlMs).toBeLessThanOrEqual(86_400_000);
    expect(await other.idempotency.run('k', () => 'another')).toBe('the one');
  });

  it('[ID-1] take 2 round trips for a first call and 1 for a replay under load too', async () => {
    const { idempotency } = await instances.start({ idempotency: { timeoutMs: 10_000 } });
    await idempotency.run('warm-up', () => 1);
    const load = async (): Promise<void> => {
      const keys = Array.from({ length: 1_000 }, (_, n) => `key ${n}`).values();
      const callers = Array.from({ length: 50 }, async () => {
        for (const key of keys) await idempotency.run(key, () => key);
      });
      await Promise.all(callers);
    };
    // Calls of one turn of the event loop share one.
    expect((await countCommands(redis.client, load)).evalsha).toBeLessThanOrEqual(2_000);
    expect((await countCommands(redis.client, load)).evalsha).toBeLessThanOrEqual(1_000);
  });
});

describe('an idempotent run inside another', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));

  it('[ID-3] refuses the outer one when it is refused; the outer one runs again on the next call, and not before', async () => {
    const { idempotency } = await instances.start();
    const { promise, resolve } = gate();
    const holder = idempotency.run('inner', () => promise);
    const outer = jest.fn(() => idempotency.run('inner', () => 'inner'));
    await expect(idempotency.run('outer', outer)).rejects.toThrow(IdempotencyInFlightError);
    expect(outer).toHaveBeenCalledTimes(1);
    expect(await idempotency.inspect('outer')).toBeNull();
    resolve();
    await holder;
    expect(await idempotency.run('outer', outer)).toBeUndefined();
    expect(outer).toHaveBeenCalledTimes(2);

    await idempotency.run('payload', () => 1, { fingerprint: 'a' });
    const other = () => idempotency.run('payload', () => 1, { fingerprint: 'b' });
    await expect(idempotency.run('outer 2', other)).rejects.toThrow(IdempotencyMismatchError);
    expect(await idempotency.inspect('outer 2')).toBeNull();
  });

  it('[ID-3] holds the outer one when its outcome is unknown or its result is not available', async () => {
    const { idempotency } = await instances.start();
    const fails = (): never => {
      throw new OutcomeUnknownError('lost');
    };
    await idempotency.run('inner', fails).catch(() => undefined);
    const outer = jest.fn(() => idempotency.run('inner', () => 'inner'));
    await expect(idempotency.run('outer', outer)).rejects.toThrow(IdempotencyResultUnavailableError);
    expect(await idempotency.inspect('outer')).toMatchObject({ state: 'held' });
    await expect(idempotency.run('outer', outer)).rejects.toThrow(IdempotencyResultUnavailableError);
    expect(outer).toHaveBeenCalledTimes(1);
  });
});
