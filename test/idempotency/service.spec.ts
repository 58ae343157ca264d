import { randomUUID } from 'node:crypto';
import { ConflictException, Injectable } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  Idempotent,
  IdempotencyInFlightError,
  IdempotencyMismatchError,
  IdempotencyRecordError,
  IdempotencyResultUnavailableError,
  IdempotencyService,
  InvalidArgumentError,
  LeaseLostError,
  OutcomeUnknownError,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';

interface ShipOrder {
  orderId: string;
}

@Injectable()
class Shipping {
  shipped = 0;

  @Idempotent({ operation: 'orders.ship', key: (job: ShipOrder) => job.orderId })
  async ship(job: ShipOrder): Promise<{ orderId: string; parcel: number }> {
    return { orderId: job.orderId, parcel: ++this.shipped };
  }
}

/** A promise and the function that settles it. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

describe('IdempotencyService', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let idempotency: IdempotencyService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url }, { providers: [Shipping] });
    idempotency = app.get(IdempotencyService);
  });

  const recordOf = async (): Promise<string> => {
    const [record, ...others] = await redis.client.keys('atomic:idempotency:*');
    expect(others).toEqual([]);
    return record!;
  };

  it('[ID-1] decorates any provider method', async () => {
    const shipping = app.get(Shipping);
    await expect(shipping.ship({ orderId: 'o-1' })).resolves.toEqual({ orderId: 'o-1', parcel: 1 });
    await expect(shipping.ship({ orderId: 'o-1' })).resolves.toEqual({ orderId: 'o-1', parcel: 1 });
    await expect(shipping.ship({ orderId: 'o-2' })).resolves.toEqual({ orderId: 'o-2', parcel: 2 });
  });

  it('[ID-1] takes 2 round trips for the first call and 1 for a repeated one', async () => {
    expect(await countCommands(redis.client, () => idempotency.run('k', () => 1))).toMatchObject({
      evalsha: 2,
    });
    expect(await countCommands(redis.client, () => idempotency.run('k', () => 2))).toMatchObject({
      evalsha: 1,
    });
  });

  it('[ID-4] runs once for 200 simultaneous calls; the others learn that it is running', async () => {
    let runs = 0;
    const { opened, open } = gate();
    const calls = Array.from({ length: 200 }, () =>
      idempotency.run('k', async () => {
        runs++;
        await opened;
        return 'done';
      }),
    );
    const settled = Promise.allSettled(calls);
    await Promise.race(calls.map((call) => call.catch(() => undefined)));
    open();
    const results = await settled;
    expect(runs).toBe(1);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results)
      if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(IdempotencyInFlightError);
    expect(await redis.client.pttl(await recordOf())).toBeGreaterThan(0);
  });

  it.each([undefined, null, '', 0, false, [], {}, 'text', { a: [1, { b: null }] }])(
    '[ID-2] replays %j',
    async (value) => {
      await expect(idempotency.run('k', () => value)).resolves.toEqual(value);
      await expect(idempotency.run('k', () => 'another')).resolves.toEqual(value);
    },
  );

  it.each([new Date(), new Map(), 10n, Number.NaN, -0, { nested: new Set() }, () => 1])(
    '[ID-3] returns %p, which JSON cannot represent, and refuses to run again',
    async (value) => {
      await expect(idempotency.run('k', () => value)).resolves.toBe(value);
      await expect(idempotency.run('k', () => 'another')).rejects.toThrow(IdempotencyResultUnavailableError);
    },
  );

  it('[ID-3] passes the method’s own error through, replays a 4xx, releases the key otherwise, and holds it when the outcome is unknown', async () => {
    const conflict = new ConflictException('sold out');
    await expect(idempotency.run('4xx', () => Promise.reject(conflict))).rejects.toBe(conflict);
    await expect(idempotency.run('4xx', () => 'ran')).rejects.toMatchObject({
      status: 409,
      message: 'sold out',
    });

    const crash = new Error('boom');
    await expect(idempotency.run('crash', () => Promise.reject(crash))).rejects.toBe(crash);
    await expect(idempotency.run('crash', () => 'ran')).resolves.toBe('ran');

    const unknown = new OutcomeUnknownError('lost');
    await expect(idempotency.run('unknown', () => Promise.reject(unknown))).rejects.toBe(unknown);
    await expect(idempotency.run('unknown', () => 'ran')).rejects.toMatchObject({
      code: 'IDEMPOTENCY_OUTCOME_UNKNOWN',
      outcome: 'unknown',
    });
  });

  it('[ID-4] refuses another payload, and accepts one that differs only in the order of its keys', async () => {
    await idempotency.run('k', () => 1, { fingerprint: { a: 1, b: 2 } });
    await expect(idempotency.run('k', () => 2, { fingerprint: { b: 2, a: 1 } })).resolves.toBe(1);
    await expect(idempotency.run('k', () => 2, { fingerprint: { a: 1, b: 3 } })).rejects.toThrow(
      IdempotencyMismatchError,
    );
  });

  it('[ID-5] keeps scopes and operations apart, whatever characters they contain', async () => {
    await idempotency.run('c', () => 1, { scope: 'a', operation: 'b' });
    await expect(idempotency.run('bc', () => 2, { scope: 'a' })).resolves.toBe(2);
    await expect(idempotency.run('c', () => 3, { scope: 'ab' })).resolves.toBe(3);
    await expect(idempotency.run('c', () => 4, { scope: 'b', operation: 'a' })).resolves.toBe(4);
  });

  it('[ID-5] keeps raw keys out of the keyspace', async () => {
    const secret = `{}*?[ \0é${randomUUID()}`;
    await idempotency.run(secret, () => 1, { scope: secret });
    expect(await recordOf()).toMatch(/^atomic:idempotency:[\w-]{43}$/);
  });

  it('[ID-8] renews the lease of a run that outlasts it', async () => {
    const { opened, open } = gate();
    const running = idempotency.run('k', () => opened, { leaseMs: 2_400 });
    const seen = Date.now() + 3_600;
    while (Date.now() < seen) {
      await expect(idempotency.run('k', () => 'second')).rejects.toThrow(IdempotencyInFlightError);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    open();
    await expect(running).resolves.toBeUndefined();
  });

  it('[ID-8] aborts a run that lost its key, which then neither completes nor releases the new owner’s', async () => {
    const { opened, open } = gate();
    let signal: AbortSignal | undefined;
    const stale = idempotency.run(
      'k',
      async (run) => {
        signal = run.signal;
        await opened;
        return 'stale';
      },
      { leaseMs: 6_000 },
    );
    while (!signal) await new Promise((resolve) => setImmediate(resolve));
    const aborted = new Promise<void>((resolve) => signal!.addEventListener('abort', () => resolve()));
    await redis.client.del(await recordOf());
    await expect(idempotency.run('k', () => 'new owner')).resolves.toBe('new owner');
    await aborted;
    expect(signal.reason).toBeInstanceOf(LeaseLostError);
    open();
    await expect(stale).resolves.toBe('stale');
    await expect(idempotency.run('k', () => 'third')).resolves.toBe('new owner');
  });

  it('[ID-8] stores the result when the record vanished and no other call took the key', async () => {
    await idempotency.run('k', async () => {
      await redis.client.flushall();
      return 'kept';
    });
    await expect(idempotency.run('k', () => 'second')).resolves.toBe('kept');
  });

  it.each([
    ['a string', (key: string) => redis.client.set(key, 'mine')],
    ['a hash', (key: string) => redis.client.hset(key, 'field', 'mine')],
    ['a newer record', (key: string) => redis.client.set(key, '2|done|me||value||1')],
  ])('[ID-9] leaves %s under its key untouched and runs nothing', async (_, write) => {
    await idempotency.run('k', () => 1);
    const record = await recordOf();
    await redis.client.del(record);
    await write(record);
    const before = await redis.client.dump(record);
    let ran = false;
    await expect(idempotency.run('k', () => (ran = true))).rejects.toThrow(IdempotencyRecordError);
    expect(ran).toBe(false);
    expect(await redis.client.dumpBuffer(record)).toEqual(await redis.client.dumpBuffer(record));
    expect(await redis.client.dump(record)).toBe(before);
  });

  it.each<[string, () => unknown]>([
    ['key', () => idempotency.run('', () => 1)],
    ['key', () => idempotency.run(undefined as never, () => 1)],
    ['key', () => idempotency.run({} as never, () => 1)],
    ['work', () => idempotency.run('k', undefined as never)],
    ['options.ttlMs', () => idempotency.run('k', () => 1, { ttlMs: Number.NaN })],
    ['options.leaseMs', () => idempotency.run('k', () => 1, { leaseMs: 1.5 })],
    ['options.tll', () => idempotency.run('k', () => 1, { tll: 5 } as never)],
    ['options.onError', () => idempotency.run('k', () => 1, { onError: 'retry' as never })],
  ])('[ARG-1] refuses a wrong %s before any command', async (argument, call) => {
    const counts = await countCommands(redis.client, async () => {
      await expect(call()).rejects.toThrow(InvalidArgumentError);
      await expect(call()).rejects.toMatchObject({ argument, outcome: 'not-applied' });
    });
    expect(counts).toEqual({});
  });
});
