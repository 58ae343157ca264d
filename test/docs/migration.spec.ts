import { randomUUID } from 'node:crypto';
import { Idempotency, IdempotencyErrorCodes, type IdempotencyParams } from '@node-idempotency/core';
import { RedisStorageAdapter } from '@node-idempotency/storage-adapter-redis';
import { Redis } from 'ioredis';
import type { AtomicRedis } from 'nestjs-atomic-redis';
import { AtomicThrottlerStorage } from 'nestjs-atomic-redis/throttler';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { Mutex } from 'redis-semaphore';
import { createLock, IoredisAdapter } from 'redlock-universal';
import { gate } from '../idempotency/support.js';
import { useAtomicRedis } from '../mistakes/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const redis = useRedis();
const atomic = useAtomicRedis(() => ({ connection: redis.server.url, namespace: 'atomic:' }));

describe('[DOC-5] docs/migration.md on @node-idempotency/core', () => {
  let storage: RedisStorageAdapter;
  let peer: Idempotency;

  beforeAll(async () => {
    storage = new RedisStorageAdapter({ url: redis.server.url });
    await storage.connect();
    peer = new Idempotency(storage);
  });
  afterAll(() => storage.disconnect());

  const request = (key: string, rest: Partial<IdempotencyParams> = {}): IdempotencyParams => {
    const { headers, ...others } = rest;
    return {
      method: 'POST',
      path: '/orders',
      body: { sku: 'tea' },
      headers: { 'idempotency-key': key, ...headers },
      ...others,
    };
  };
  const codeOf = async (answer: Promise<unknown>): Promise<unknown> =>
    await answer.then(
      () => 'no error',
      (error: { code: string }) => error.code,
    );

  it('a key of a dead process stays in progress for the whole time to live there, and for the lease here', async () => {
    await peer.onRequest(request('k'));
    const left = await redis.client.pttl('node-idempotency:POST:/orders:k');
    expect(left).toBeGreaterThan(23 * 3_600_000);
    expect(await codeOf(peer.onRequest(request('k')))).toBe(IdempotencyErrorCodes.REQUEST_IN_PROGRESS);

    const { promise, resolve } = gate();
    const running = atomic.services.idempotency.run('k', () => promise);
    const record = await waitFor('the record', async () => (await redis.client.keys('atomic:*'))[0]);
    const lease = await redis.client.pttl(record);
    expect(lease).toBeGreaterThan(0);
    expect(lease).toBeLessThanOrEqual(30_000);
    resolve();
    await running;
  });

  it('its key is shared by all callers of the path', async () => {
    await peer.onRequest(request('k', { headers: { authorization: 'ada' } }));
    await peer.onResponse(request('k', { headers: { authorization: 'ada' } }), { body: { secret: 'ada’s' } });
    const answer = await peer.onRequest(request('k', { headers: { authorization: 'ben' } }));
    expect(answer).toEqual({ body: { secret: 'ada’s' } });
  });

  it('another payload is reported as in progress while the first call runs, and the order of JSON keys matters', async () => {
    await peer.onRequest(request('k', { body: { a: 1, b: 2 } }));
    expect(await codeOf(peer.onRequest(request('k', { body: { a: 2, b: 2 } })))).toBe(
      IdempotencyErrorCodes.REQUEST_IN_PROGRESS,
    );
    await peer.onResponse(request('k', { body: { a: 1, b: 2 } }), { body: 'done' });
    expect(await codeOf(peer.onRequest(request('k', { body: { b: 2, a: 1 } })))).toBe(
      IdempotencyErrorCodes.IDEMPOTENCY_FINGERPRINT_MISSMATCH,
    );
  });

  describe('both libraries side by side', () => {
    let runs = 0;
    const work = async (): Promise<object> => ({ run: ++runs });
    /** The old version: @node-idempotency around the handler. */
    const before = async (key: string, handler = work): Promise<unknown> => {
      const known = await peer.onRequest(request(key));
      if (known) return known.body;
      const body = await handler();
      await peer.onResponse(request(key), { body });
      return body;
    };
    /** The new version: the library alone. */
    const after = (key: string): Promise<unknown> =>
      atomic.services.idempotency.run(key, work, { operation: 'orders.create', onDuplicate: 'wait' });
    /** The version between them: both, the old one outside. */
    const between = (key: string): Promise<unknown> => before(key, () => after(key) as Promise<object>);

    beforeEach(() => void (runs = 0));

    it.each([
      ['before, then between', before, between],
      ['between, then before', between, before],
      ['between, then after', between, after],
      ['after, then between', after, between],
    ])('%s: one run and one answer', async (_name, first, second) => {
      expect(await first('k')).toEqual({ run: 1 });
      expect(await second('k')).toEqual({ run: 1 });
      expect(await first('k')).toEqual({ run: 1 });
      expect(runs).toBe(1);
    });

    it('without a bridge, old and new calls do not see each other', async () => {
      await before('k');
      await after('k');
      expect(runs).toBe(2);
    });
  });
});

describe('[DOC-5] docs/migration.md on redlock-universal', () => {
  it('nothing refuses a write of a holder whose lock has expired', async () => {
    const adapter = new IoredisAdapter(redis.client);
    const lock = () => createLock({ adapter, key: 'lock', ttl: 1_000 });
    await redis.client.set('balance', 100);
    const slow = lock();
    await slow.acquire();
    const balance = Number(await redis.client.get('balance'));
    await waitFor('the end of the lock', async () => (await redis.client.exists('lock')) === 0);
    const next = lock();
    const handle = await next.acquire();
    await redis.client.decrby('balance', 10);
    await next.release(handle);
    await redis.client.set('balance', balance - 50);
    expect(await redis.client.get('balance')).toBe('50'); // 40 would be right
  });
});

describe('[DOC-5] docs/migration.md on rate-limiter-flexible', () => {
  it('a refused call is counted there, and takes nothing here', async () => {
    const theirs = new RateLimiterRedis({ storeClient: redis.client, points: 2, duration: 3_600 });
    const { limits } = atomic.services;
    const ours = { key: 'k', algorithm: 'fixed', limit: 2, perMs: 31_536_000_000 } as const;
    for (let i = 0; i < 5; i++) {
      await theirs.consume('k').catch(() => undefined);
      await limits.take(ours);
    }
    expect((await theirs.get('k'))!.consumedPoints).toBe(5);
    expect((await limits.take({ ...ours, limit: 4 })).allowed).toBe(true);
  });

  it('its window begins with the first call', async () => {
    const theirs = new RateLimiterRedis({ storeClient: redis.client, points: 2, duration: 3_600 });
    await theirs.consume('k');
    // An aligned window would end at the hour.
    expect(await redis.client.pttl('rlflx:k')).toBeGreaterThan(3_590_000);
  });
});

describe('[DOC-5] docs/migration.md on @nestjs/throttler', () => {
  it('several throttlers run one after another: the first counts calls that the second refuses', async () => {
    const theirs = new AtomicThrottlerStorage({ limits: atomic.services.limits } as AtomicRedis);
    const ask = async () => {
      const wide = await theirs.increment('k', 3_600_000, 10, 0, 'wide');
      const narrow = await theirs.increment('k', 3_600_000, 1, 0, 'narrow');
      return { left: 10 - wide.totalHits, isBlocked: narrow.isBlocked };
    };
    expect([await ask(), await ask()]).toEqual([
      { left: 9, isBlocked: false },
      { left: 8, isBlocked: true },
    ]);
    const take = async () =>
      (
        await atomic.services.limits.take([
          { key: '{k}:wide', limit: 10, perMs: 3_600_000, algorithm: 'sliding' },
          { key: '{k}:narrow', limit: 1, perMs: 3_600_000, algorithm: 'sliding' },
        ])
      ).limits[0]!.remaining;
    expect([await take(), await take()]).toEqual([9, 9]);
  });
});

describe('[DOC-5] docs/migration.md on redis-semaphore', () => {
  it('nothing refuses a write of a holder whose lock has expired', async () => {
    await redis.client.set('balance', 100);
    const mutex = new Mutex(redis.client, 'lock', { lockTimeout: 1_000, refreshInterval: 0 });
    await mutex.acquire();
    const balance = Number(await redis.client.get('balance'));
    await waitFor('the end of the lock', async () => (await redis.client.exists('mutex:lock')) === 0);
    const next = new Mutex(redis.client, 'lock');
    await next.acquire();
    await redis.client.decrby('balance', 10);
    await next.release();
    await redis.client.set('balance', balance - 50);
    expect(await redis.client.get('balance')).toBe('50'); // 40 would be right
  });
});

describe('[DOC-5] docs/migration.md on hand-written code', () => {
  it('a correct WATCH loop and transactions lose nothing side by side', async () => {
    const own = new Redis(redis.server.url);
    const byHand = async (): Promise<void> => {
      for (;;) {
        await own.watch('n');
        const n = Number(await own.get('n'));
        const replies = await own
          .multi()
          .set('n', n + 1)
          .exec();
        if (replies !== null) return;
      }
    };
    const byLibrary = (): Promise<void> =>
      atomic.services.transactions.run(['n'], async (tx) => {
        tx.write.set('n', Number(await tx.read.get('n')) + 1);
      });
    const repeat = async (what: () => Promise<void>): Promise<void> => {
      for (let i = 0; i < 40; i++) await what();
    };
    try {
      await Promise.all([repeat(byHand), repeat(byLibrary)]);
    } finally {
      own.disconnect();
    }
    expect(await redis.client.get('n')).toBe('80');
  });

  it('a lock does not keep a transaction out, and its plain SET overwrites', async () => {
    await redis.client.set('n', 0);
    await redis.client.set('lock:n', randomUUID(), 'PX', 60_000, 'NX');
    const n = Number(await redis.client.get('n'));
    await atomic.services.transactions.run(['n'], (tx) => tx.write.incr('n'));
    await redis.client.set('n', n + 1);
    expect(await redis.client.get('n')).toBe('1'); // 2 would be right
  });

  it('INCRBY and CounterService work on one number', async () => {
    const { counters } = atomic.services;
    await redis.client.incrby('n', 5);
    expect(await counters.add('n', -2, { min: 0 })).toMatchObject({ value: 3 });
    expect(await redis.client.incrby('n', 1)).toBe(4);
    expect(await counters.get('n')).toBe(4);
  });
});
