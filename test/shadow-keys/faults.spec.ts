import type { TestingModule } from '@nestjs/testing';
import {
  ModuleClosedError,
  OutcomeUnknownError,
  RedisReplyError,
  RedisUnavailableError,
  ShadowKeyService,
  ShadowLostError,
  type ReplaceOptions,
  type ShadowWriter,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { holdRequest } from '../support/hold-request.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker } from '../support/workers.js';
import { fieldsOf, startApp } from './app.js';

const swaps = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' };
const chunks = { match: ({ name }: { name: string }): boolean => name === 'EXEC' };

describe('a shadow key whose connection fails', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let apps: TestingModule[];
  /** Reaches Redis through the proxy. */
  let shadowKeys: ShadowKeyService;
  /** Straight to Redis: what another process is. */
  let other: ShadowKeyService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    apps = await Promise.all([startApp(proxy.url), startApp(redis.server.url)]);
    [shadowKeys, other] = apps.map((app) => app.get(ShadowKeyService)) as [
      ShadowKeyService,
      ShadowKeyService,
    ];
    await redis.client.hset('k', { v: 'old' });
  });

  afterEach(async () => {
    await Promise.all(apps.map((app) => app.close()));
    await proxy.stop();
  });

  const live = () => redis.client.hgetall('k');
  const shadows = () => redis.client.keys('atomic:shadow:*');
  const oneShadow = () => waitFor('a shadow', async () => (await shadows())[0]);

  /** A build that pauses after its first chunk until `goOn()`. */
  function standingBuild(options: ReplaceOptions = {}, rest = fieldsOf('new', 3_000)) {
    let goOn = (): void => undefined;
    const held = new Promise<void>((resolve) => (goOn = resolve));
    const replacing = shadowKeys.replace(
      'k',
      async (w) => {
        await w.hset(fieldsOf('new', 1_000));
        await held;
        await w.hset(rest);
      },
      options,
    );
    replacing.catch(() => undefined);
    return { replacing, goOn };
  }

  /** Returns the error, and the live value then. */
  const failureOf = async (replacing: Promise<unknown>) => {
    const error = await replacing.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    return { error, live: await live() };
  };
  const lost = {
    error: expect.objectContaining({
      constructor: ShadowLostError,
      keys: ['k'],
      outcome: 'not-applied',
      retryable: true,
    }),
    live: { v: 'old' },
  };

  describe('a swap whose reply is lost', () => {
    it.each<[string, ReplaceOptions]>([
      ['by rename', {}],
      ['by copy', { mode: 'copy' }],
      ['with a version', { version: 7, keepPrevious: true }],
    ])('[SK-9] is reported as done, %s', async (_, options) => {
      const fault = proxy.loseReplies(swaps);
      expect(await shadowKeys.replace('k', { v: 'new' }, options)).toMatchObject({ swapped: true });
      expect(fault.count).toBe(1);
      expect(await live()).toEqual({ v: 'new' });
      if (options.keepPrevious) {
        expect(await other.rollback('k')).toBe(true);
        expect(await live()).toEqual({ v: 'old' });
      }
    });

    it('[SK-9] takes effect once: a later swap stays', async () => {
      const fault = proxy.loseReplies(swaps);
      const replacing = shadowKeys.replace('k', { v: 'first' }, { keepPrevious: true });
      await fault.triggered;
      proxy.refuseConnections(true);
      await other.replace('k', { v: 'second' }, { keepPrevious: true });
      proxy.refuseConnections(false);
      expect(await replacing).toMatchObject({ swapped: true });
      expect(await live()).toEqual({ v: 'second' });
      expect(await other.rollback('k')).toBe(true);
      expect(await live()).toEqual({ v: 'first' });
    });

    it('[SK-9] is refused once too, even if the newer version is gone when the copy arrives', async () => {
      await other.replace('k', { v: 'newer' }, { version: 9 });
      const fault = proxy.loseReplies(swaps);
      const replacing = shadowKeys.replace('k', { v: 'older' }, { version: 8 });
      await fault.triggered;
      proxy.refuseConnections(true);
      await redis.client.del('k', 'atomic:shadow-version:{k}:k');
      proxy.refuseConnections(false);
      expect(await replacing).toMatchObject({ swapped: false });
      expect(await live()).toEqual({});
    });

    it('[SK-9] rolls back once', async () => {
      await other.replace('k', { v: 1 }, { keepPrevious: true });
      proxy.loseReplies(swaps);
      expect(await shadowKeys.rollback('k')).toBe(true);
      expect(await live()).toEqual({ v: 'old' });
    });

    it('[SK-9] is done when the server never saw the first copy', async () => {
      proxy.cutBeforeServer(swaps);
      expect(await shadowKeys.replace('k', { v: 'new' })).toMatchObject({ swapped: true });
      expect(await live()).toEqual({ v: 'new' });
    });
  });

  it.each<[string, (timeoutMs: number) => Promise<unknown>]>([
    ['a swap', (timeoutMs) => shadowKeys.replace('k', { v: 'new' }, { timeoutMs })],
    ['a deletion', (timeoutMs) => shadowKeys.replace('k', {}, { timeoutMs, onEmpty: 'delete' })],
    ['a rollback', (timeoutMs) => shadowKeys.rollback('k', { timeoutMs })],
  ])('[SK-9] %s that arrives after its time-out does nothing, and is reported as unknown', async (_, act) => {
    await other.replace('k', { v: 'old' }, { keepPrevious: true });
    const late = proxy.deliverLate(2_000, swaps);
    void late.triggered.then(() => proxy.refuseConnections(true));
    await expect(act(1_000)).rejects.toThrow(OutcomeUnknownError);
    await late.delivered;
    expect(await live()).toEqual({ v: 'old' });
    expect(await redis.client.exists('atomic:shadow-previous:{k}:k')).toBe(1);
  });

  describe('a chunk', () => {
    it.each<[string, () => unknown]>([
      ['whose reply is lost', () => proxy.loseReplies(chunks)],
      ['that never arrives', () => proxy.cutBeforeServer(chunks)],
      ['whose reply arrives in part', () => proxy.deliverPartOfReply(5, chunks)],
    ])('[SK-10] %s loses the shadow, which is never sent again', async (_, strike) => {
      strike();
      expect(
        await failureOf(shadowKeys.replace('k', fieldsOf('new', 3_000), { shadowTtlMs: 1_000 })),
      ).toEqual(lost);
      await waitFor('no shadow', async () => (await shadows()).length === 0);
    });

    it('[SK-10] that arrives after its connection is gone leaves a key that expires', async () => {
      const late = proxy.deliverLate(300, chunks);
      expect(await failureOf(shadowKeys.replace('k', fieldsOf('new', 500), { shadowTtlMs: 1_000 }))).toEqual(
        lost,
      );
      expect(await late.delivered).toBe(true);
      await waitFor('no shadow', async () => (await shadows()).length === 0);
      expect(await live()).toEqual({ v: 'old' });
    });

    it('[SK-10] that hangs loses the shadow in time', async () => {
      proxy.blackHole(chunks);
      const failure = await failureOf(shadowKeys.replace('k', { v: 'new' }, { timeoutMs: 1_000 }));
      expect(failure).toEqual(lost);
      expect(failure.error).toMatchObject({ message: expect.stringContaining('within 1000 ms') });
      proxy.reset();
    });

    it('[SK-10] loses the shadow at once when its connection is cut, even while the source is idle', async () => {
      const { replacing } = standingBuild();
      await oneShadow();
      const cutAt = performance.now();
      proxy.disconnectAll();
      expect(await failureOf(replacing)).toEqual(lost);
      // Well before the next renewal would have found out.
      expect(performance.now() - cutAt).toBeLessThan(10_000);
      await waitFor('no shadow', async () => (await shadows()).length === 0);
    });
  });

  describe('a shadow', () => {
    it('[SK-11] that expired never becomes live, even if another chunk followed', async () => {
      const replacing = other.replace(
        'k',
        async (w) => {
          await w.hset(fieldsOf('new', 1_000));
          await oneShadow();
          // The process stands still longer than its shadow lives.
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_300);
          await w.hset(fieldsOf('new', 3_000));
        },
        { shadowTtlMs: 1_000 },
      );
      expect(await failureOf(replacing)).toEqual(lost);
      expect(await shadows()).toEqual([]);
    });

    it.each<[string, (shadow: string) => unknown]>([
      ['was deleted', (shadow) => redis.client.del(shadow)],
      ['lost its time to live', (shadow) => redis.client.persist(shadow)],
      ['expired', (shadow) => redis.client.pexpire(shadow, 1)],
      ['was flushed', () => redis.client.flushall().then(() => redis.client.hset('k', { v: 'old' }))],
    ])('[SK-11] that %s in the middle never becomes live', async (_, lose) => {
      const { replacing, goOn } = standingBuild();
      await lose(await oneShadow());
      await waitFor('it to be lost', async () => {
        const [shadow] = await shadows();
        return !shadow || (await redis.client.pttl(shadow)) === -1;
      });
      goOn();
      expect(await failureOf(replacing)).toEqual(lost);
      expect(await shadows()).toEqual([]);
    });

    it.each<[string, (shadow: string) => unknown]>([
      ['was deleted', (shadow) => redis.client.del(shadow)],
      ['lost its time to live', (shadow) => redis.client.persist(shadow)],
      ['lost an element', (shadow) => redis.client.hdel(shadow, 'f7')],
      ['was replaced', (shadow) => redis.client.set(shadow, 'x', 'PX', 10_000)],
    ])('[SK-11] that %s between its last chunk and the swap never becomes live', async (_, lose) => {
      const lostIt = holdRequest(proxy, swaps, async () => lose(await oneShadow()));
      const replacing = shadowKeys.replace('k', fieldsOf('new', 1_000));
      expect(await failureOf(replacing)).toEqual(lost);
      await lostIt;
      expect(await shadows()).toEqual([]);
    });

    it('[SK-11] lives on while its source is idle', async () => {
      const { replacing, goOn } = standingBuild({ shadowTtlMs: 3_000 });
      const shadow = await oneShadow();
      let lowest = Infinity;
      await waitFor('a renewal', async () => {
        const ttl = await redis.client.pttl(shadow);
        const isRenewed = ttl > lowest;
        lowest = Math.min(lowest, ttl);
        return isRenewed;
      });
      goOn();
      expect(await replacing).toMatchObject({ swapped: true });
      expect(await redis.client.hlen('k')).toBe(3_000);
    });

    it('[SK-11] is lost for its build as soon as a renewal finds it missing', async () => {
      const { replacing } = standingBuild({ shadowTtlMs: 1_000 });
      await redis.client.del(await oneShadow());
      expect(await failureOf(replacing)).toEqual(lost);
    });

    it('[SK-11] expires when its process was killed', async () => {
      const builder = startWorker({
        script: require.resolve('./builder.worker.ts'),
        data: { url: redis.server.url, shadowTtlMs: 3_000 },
      });
      await oneShadow();
      await builder.kill();
      expect(await shadows()).toHaveLength(1);
      await waitFor('no shadow', async () => (await shadows()).length === 0);
      expect(await redis.client.keys('*')).toEqual(['k']);
      expect(await live()).toEqual({ v: 'old' });
    });
  });

  describe('memory', () => {
    afterEach(() => redis.client.config('SET', 'maxmemory', 0));

    const refused = {
      error: expect.objectContaining({ constructor: RedisReplyError, reply: 'OOM', outcome: 'not-applied' }),
      live: { v: 'old' },
    };

    it('[SK-12] that runs out ends the build and changes nothing', async () => {
      const { replacing, goOn } = standingBuild();
      await oneShadow();
      await redis.client.config('SET', 'maxmemory', 1);
      goOn();
      expect(await failureOf(replacing)).toEqual(refused);
      await redis.client.config('SET', 'maxmemory', 0);
      expect(await redis.client.keys('*')).toEqual(['k']);
    });

    it.each<[string, ReplaceOptions]>([
      ['by rename', { keepPrevious: true, version: 1 }],
      ['by copy', { mode: 'copy' }],
    ])('[SK-12] that runs out before the swap, %s, changes nothing', async (_, options) => {
      const full = holdRequest(proxy, swaps, () => redis.client.config('SET', 'maxmemory', 1));
      const replacing = shadowKeys.replace('k', fieldsOf('new', 1_000), options);
      replacing.catch(() => undefined);
      await full;
      expect(await failureOf(replacing)).toEqual(refused);
      await redis.client.config('SET', 'maxmemory', 0);
      expect(await redis.client.keys('*')).toEqual(['k']);
    });

    it('[SK-12] of the process stays flat: a source is read no faster than Redis accepts it', async () => {
      let read = 0;
      async function* source() {
        for (; read < 100_000; read++) yield [`f${read}`, 'v'] as const;
      }
      proxy.delay({ ...chunks, requestMs: 300 });
      let confirmed = 0;
      let ahead = 0;
      await shadowKeys.replace('k', source(), {
        onProgress: ({ written }) => {
          ahead = Math.max(ahead, read - confirmed);
          confirmed = written;
        },
      });
      expect(ahead).toBeLessThanOrEqual(5_000);
      expect(await redis.client.hlen('k')).toBe(100_000);
    });
  });

  it('[SK-10] reports in time that Redis is unreachable, and reads nothing of the source', async () => {
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    let asked = false;
    const source = (w: ShadowWriter): Promise<void> => {
      asked = true;
      return w.hset({ v: 'new' });
    };
    await expect(shadowKeys.replace('k', source, { timeoutMs: 200 })).rejects.toThrow(RedisUnavailableError);
    expect(asked).toBe(false);
  });

  it('[SK-7] ends builds and their connections when the module closes', async () => {
    const app = await startApp(redis.server.url, { shutdownTimeoutMs: 50 });
    const replacing = app.get(ShadowKeyService).replace('k', async (w) => {
      await w.hset(fieldsOf('new', 1_000));
      await new Promise(() => undefined);
    });
    replacing.catch(() => undefined);
    await oneShadow();
    await app.close();
    await expect(replacing).rejects.toThrow(ModuleClosedError);
    expect(await shadows()).toEqual([]);
    await expect(app.get(ShadowKeyService).replace('k', { v: 1 })).rejects.toThrow(ModuleClosedError);
    await waitFor('its connection to be closed', async () => {
      const clients = (await redis.client.client('LIST')) as string;
      return !clients.includes(':shadow');
    });
    expect(await live()).toEqual({ v: 'old' });
  });

  it('[SK-6] opens one connection for each call and closes it', async () => {
    const before = proxy.connections;
    await shadowKeys.replaceAll({ a: { v: 1 }, b: { v: 1 } });
    expect(proxy.connections).toBe(before + 1);
    await waitFor('it to be closed', () => proxy.openConnections === 1);
    expect(apps[0]!.get(RedisConnection).isReady).toBe(true);
  });
});
