import type { TestingModule } from '@nestjs/testing';
import {
  AtomicRedis,
  IllegalTransactionStateError,
  type AtomicRedisEvent,
  LeaseLostError,
  type EnforceableOptions,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { ALL_OPERATIONS } from '../../lib/atomic-redis.operations.js';
import type { ScriptedOperationType } from '../../lib/observability/event-types.js';
import { inTransaction } from '../support/in-transaction.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';

interface Case {
  /** Makes what the call finds in Redis; its result is given to the call. */
  readonly before?: (redis: AtomicRedis) => Promise<unknown>;
  readonly call: (redis: AtomicRedis, options: EnforceableOptions, prepared: never) => Promise<unknown>;
}

const stock = ({ counters }: AtomicRedis) => counters.add('u:n', 9);
const held = async (redis: AtomicRedis): Promise<string> => {
  await stock(redis);
  return (await redis.reservations.hold('u:n', 2, { ttlMs: 60_000 })).id;
};
const valued = ({ values }: AtomicRedis) => values.getAndSet('u:k', 'old');
const field = ({ values }: AtomicRedis) => values.compareAndSetField('u:h', 'f', null, 'old');
const minute = { key: 'u:l', limit: 9, perMs: 60_000, algorithm: 'fixed' } as const;
const reserved = async ({ limits }: AtomicRedis): Promise<string> =>
  (await limits.reserve({ ...minute, cost: 2 }, { ttlMs: 60_000 })).id!;
const leg = { from: 'u:n', to: 'u:to', amount: 2 };

/** One call of each operation. A new operation does not compile until it is here. */
const CASES: { readonly [Type in ScriptedOperationType]: Case } = {
  'values.compareAndSet': {
    before: valued,
    call: ({ values }, options) => values.compareAndSet('u:k', 'old', 'new', options),
  },
  'values.compareAndDelete': {
    before: valued,
    call: ({ values }, options) => values.compareAndDelete('u:k', 'old', options),
  },
  'values.compareAndSetField': {
    before: field,
    call: ({ values }, options) => values.compareAndSetField('u:h', 'f', 'old', 'new', options),
  },
  'values.compareAndDeleteField': {
    before: field,
    call: ({ values }, options) => values.compareAndDeleteField('u:h', 'f', 'old', options),
  },
  'values.getAndSet': {
    before: valued,
    call: ({ values }, options) => values.getAndSet('u:k', 'new', options),
  },
  'values.getAndDelete': {
    before: valued,
    call: ({ values }, options) => values.getAndDelete('u:k', options),
  },
  'values.getAndExpire': {
    before: valued,
    call: ({ values }, options) => values.getAndExpire('u:k', { persist: true, ...options }),
  },
  'auditedHashes.set': {
    before: field,
    call: ({ auditedHashes }, options) => auditedHashes.set('u:h', 'f', 'new', { log: 'u:log', ...options }),
  },
  'auditedHashes.delete': {
    before: field,
    call: ({ auditedHashes }, options) => auditedHashes.delete('u:h', 'f', { log: 'u:log', ...options }),
  },
  'auditedHashes.update': {
    before: field,
    call: ({ auditedHashes }, options) =>
      auditedHashes.update('u:h', { f: null, g: 'new' }, { log: 'u:log', ...options }),
  },
  'auditedHashes.history': {
    before: ({ auditedHashes }) => auditedHashes.set('u:h', 'f', 'v', { log: 'u:log' }),
    call: async ({ auditedHashes }, { timeoutMs }) =>
      (await auditedHashes.history('u:log', { timeoutMs })).entries.map(({ old, new: next }) => [old, next]),
  },
  'transfers.transfer': {
    before: stock,
    call: ({ transfers }, options) => transfers.transfer(leg, options),
  },
  'transfers.transferAll': {
    before: stock,
    call: ({ transfers }, options) => transfers.transferAll([leg, leg], options),
  },
  'reservations.hold': {
    before: stock,
    call: async ({ reservations }, options) =>
      (await reservations.hold('u:n', 2, { ttlMs: 60_000, ...options })).available,
  },
  'reservations.confirm': {
    before: held,
    call: ({ reservations }, options, id: string) => reservations.confirm(id, options),
  },
  'reservations.release': {
    before: held,
    call: ({ reservations }, options, id: string) => reservations.release(id, options),
  },
  'reservations.extend': {
    before: held,
    call: ({ reservations }, options, id: string) => reservations.extend(id, 90_000, options),
  },
  'reservations.list': {
    before: held,
    call: async ({ reservations }, { timeoutMs }) =>
      (await reservations.list('u:n', { timeoutMs })).map(({ quantity }) => quantity),
  },
  'limits.peek': {
    before: ({ limits }) => limits.take(minute),
    call: async ({ limits }, { timeoutMs }) => (await limits.peek(minute, { timeoutMs })).allowed,
  },
  'limits.reset': {
    before: ({ limits }) => limits.take(minute),
    call: ({ limits }, options) => limits.reset(minute, options),
  },
  'limits.reserve': {
    call: async ({ limits }, options) =>
      (await limits.reserve({ ...minute, cost: 9 }, { ttlMs: 60_000, ...options })).allowed,
  },
  'limits.settle': {
    before: reserved,
    call: ({ limits }, options, id: string) => limits.settle(id, 1, options),
  },
  'lists.move': {
    before: ({ transactions }) =>
      transactions.run(['u:list'], (tx) => void tx.write.rpush('u:list', 'a', 'b')),
    // Its time-out is that of the wait.
    call: ({ lists }, { propagation, permit }) => lists.move('u:list', 'u:to', { propagation, permit }),
  },
};

/** Calls that are no operations of the runner. */
const BATCHED: readonly [string, Case][] = [
  ['counters.add', { before: stock, call: ({ counters }) => counters.add('u:n', 1) }],
  ['counters.get', { before: stock, call: ({ counters }) => counters.get('u:n') }],
  ['limits.take', { before: ({ limits }) => limits.take(minute), call: ({ limits }) => limits.take(minute) }],
];

/** Calls that copy their options, since calls of one turn leave together behind it. */
const COPYING: readonly [string, Case][] = [
  [
    'queues.push',
    { call: async ({ queues }, options) => (await queues.get('q').push('job', options)).length },
  ],
  [
    'queues.deadLetters.requeue',
    { call: ({ queues }, options) => queues.get('q').deadLetters.requeue(['none'], options) },
  ],
];

const isQuery = (type: string): boolean => ALL_OPERATIONS.some((one) => one.type === type && !one.writes);
const ALL = Object.entries(CASES) as [ScriptedOperationType, Case][];
const QUERIES = ALL.filter(([type]) => isQuery(type));
const CHANGES = ALL.filter(([type]) => !isQuery(type));

/** Those that change nothing, and say so, where what they need is not there. */
const NEEDING = [
  'values.compareAndSet',
  'values.compareAndDelete',
  'values.compareAndSetField',
  'values.compareAndDeleteField',
  'values.getAndDelete',
  'values.getAndExpire',
  'auditedHashes.delete',
  'reservations.confirm',
  'reservations.release',
  'reservations.extend',
  'limits.reset',
  'limits.settle',
  'lists.move',
] as const;

describe('every defined operation', () => {
  it.each(ALL_OPERATIONS.map((one) => [one.type, one] as const))(
    '[SC-4] %s has a marker and a time limit if its copies could do harm, and a query has neither',
    (_, { script, writes, hasMarker }) => {
      expect(script.readOnly).toBe(!writes);
      expect(script.keys[0] === 'marker').toBe(hasMarker);
      if (hasMarker) expect(script.args.slice(0, 2)).toEqual(['notAfterMs', 'keepMarker']);
      if (!writes) expect(script.args).not.toContain('notAfterMs');
      if (writes && !hasMarker) expect(script.lua).toContain('-- Copies: ');
    },
  );

  it('[SC-4] has its own type', () => {
    const types = ALL_OPERATIONS.map(({ type }) => type);
    expect(new Set(types).size).toBe(types.length);
  });
});

describe('the contract of scripted calls', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let module: TestingModule;
  let atomic: AtomicRedis;

  beforeAll(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    module = await boot({ connection: proxy.url, timeoutMs: 20_000 });
    atomic = module.get(AtomicRedis);
  });

  afterEach(() => proxy.reset());

  afterAll(() => proxy.stop());

  const prepare = async ({ before }: Case): Promise<never> => {
    await redis.client.flushall();
    return (await before?.(atomic)) as never;
  };

  /** The content of the users' keys, as bytes; streams without the times in their ids. */
  const contents = async (): Promise<Record<string, unknown>> => {
    const found: Record<string, unknown> = {};
    for (const key of (await redis.client.keys('u:*')).toSorted()) {
      const type = await redis.client.type(key);
      if (type === 'string') found[key] = await redis.client.get(key);
      else if (type === 'hash') found[key] = await redis.client.hgetall(key);
      else if (type === 'list') found[key] = await redis.client.lrange(key, 0, -1);
      else found[key] = (await redis.client.xrange(key, '-', '+')).map(([, fields]) => fields);
    }
    return found;
  };

  /** Makes the call undisturbed. */
  const undisturbed = async (one: Case): Promise<{ result: unknown; left: unknown }> => {
    const prepared = await prepare(one);
    return { result: await one.call(atomic, {}, prepared), left: await contents() };
  };

  it.each(ALL)('[SC-4] %s takes effect once when its reply is lost', async (_, one) => {
    const expected = await undisturbed(one);
    const prepared = await prepare(one);
    const lost = proxy.loseReplies(isScript);
    expect(await one.call(atomic, {}, prepared)).toEqual(expected.result);
    expect(lost.count).toBe(1);
    expect(await contents()).toEqual(expected.left);
  });

  it.each(CHANGES)(
    '[SC-4] %s does nothing when a copy arrives after the original was answered',
    async (_, one) => {
      const prepared = await prepare(one);
      const late = proxy.deliverLate(400, isScript);
      await one.call(atomic, {}, prepared);
      // Restores the state from before the call, so that a copy could act again. The markers stay.
      await redis.client.del('u:none', ...(await redis.client.keys('u:*')));
      await one.before?.(atomic);
      const before = await contents();
      expect(await late.delivered).toBe(true);
      expect(await contents()).toEqual(before);
    },
  );

  it.each([...CHANGES, ...COPYING])(
    '[SC-4] %s is refused inside a transaction, and runs with propagation "outside"',
    async (_, one) => {
      const expected = await undisturbed(one);
      const prepared = await prepare(one);
      const before = await contents();
      const inside = (options: EnforceableOptions): Promise<unknown> =>
        inTransaction(() => one.call(atomic, options, prepared));
      await expect(inside({})).rejects.toThrow(IllegalTransactionStateError);
      expect(await contents()).toEqual(before);
      expect(await inside({ propagation: 'outside' })).toEqual(expected.result);
    },
  );

  it.each(CHANGES)(
    '[PM-7] %s runs under a permit that is held, and is refused under one that was lost',
    async (_, one) => {
      const expected = await undisturbed(one);
      const prepared = await prepare(one);
      const before = await contents();
      const permit = await atomic.permits.acquire('p');
      await redis.client.del('atomic:permit-0:{p}:p');
      await expect(one.call(atomic, { permit }, prepared)).rejects.toThrow(LeaseLostError);
      expect(await contents()).toEqual(before);
      const next = await atomic.permits.acquire('p');
      expect(await one.call(atomic, { permit: next }, prepared)).toEqual(expected.result);
      expect(await contents()).toEqual(expected.left);
      await next.release();
    },
  );

  describe.each([['-get'], ['-lindex', '-llen', '-hget', '-xlen']])('for a user with %s', (...denied) => {
    let limited: TestingModule;

    beforeAll(async () => {
      await redis.client.acl('SETUSER', 'limited', 'on', '>secret', '~*', '&*', '+@all', ...denied);
      const user = new URL(redis.server.url);
      [user.username, user.password] = ['limited', 'secret'];
      limited = await boot({ connection: user.href });
    });

    afterAll(async () => {
      await redis.client.acl('DELUSER', 'limited');
    });

    it.each([...ALL, ...BATCHED])(
      '%s reports missing rights as such, and not as a wrong type',
      async (_, one) => {
        const prepared = await prepare(one);
        const before = await contents();
        const error: unknown = await one.call(limited.get(AtomicRedis), {}, prepared).then(
          () => undefined,
          (refused: unknown) => refused,
        );
        // Some read by other commands.
        if (error === undefined) return;
        expect(error).toMatchObject({ code: 'REDIS_REPLY' });
        expect(await contents()).toEqual(before);
      },
    );
  });

  it.each(QUERIES)('[READ-1] %s is sent by EVALSHA_RO, also inside a transaction', async (_, one) => {
    const prepared = await prepare(one);
    const counts = await countCommands(redis.client, () =>
      inTransaction(() => one.call(atomic, {}, prepared)),
    );
    expect(counts['evalsha_ro']).toBe(1);
    expect(counts['evalsha']).toBeUndefined();
  });

  const eventsOf = async (work: () => Promise<unknown>): Promise<AtomicRedisEvent[]> => {
    const events: AtomicRedisEvent[] = [];
    const unsubscribe = atomic.events.subscribe((event) => events.push(event));
    await work();
    await new Promise((resolve) => setImmediate(resolve));
    unsubscribe();
    return events;
  };

  it.each(ALL)('[OBS-1] %s reports its end by one event', async (type, one) => {
    const prepared = await prepare(one);
    expect(await eventsOf(() => one.call(atomic, {}, prepared))).toEqual([
      expect.objectContaining({ type, outcome: isQuery(type) ? 'not-applied' : 'applied' }),
    ]);
  });

  it.each(NEEDING)('[OBS-1] %s reports that it changed nothing where nothing is left', async (type) => {
    const one = CASES[type];
    const prepared = await prepare(one);
    await redis.client.flushall();
    expect(await eventsOf(() => one.call(atomic, {}, prepared))).toEqual([
      expect.objectContaining({ type, outcome: 'not-applied' }),
    ]);
  });

  it('[RS-3] [LM-9] an id that was never given changes nothing and says so, without a command', async () => {
    const counts = await countCommands(redis.client, async () => {
      expect(await atomic.reservations.confirm('never given')).toBe(false);
      expect(await atomic.limits.settle('never given', 1)).toBe(false);
    });
    expect(counts).toEqual({});
  });

  it.each<[string, Case]>([
    ['reservations.confirm', { call: ({ reservations }) => reservations.confirm('never given') }],
    ['limits.settle', { call: ({ limits }) => limits.settle('never given', 1) }],
    [
      'limits.reserve',
      { before: reserved, call: ({ limits }) => limits.reserve({ ...minute, cost: 8 }, { ttlMs: 60_000 }) },
    ],
    [
      'counters.addAll',
      { before: stock, call: ({ counters }) => counters.addAll([{ key: 'u:n', amount: 1, max: 9 }]) },
    ],
  ])('[OBS-1] %s reports that it changed nothing when it is refused', async (type, one) => {
    const prepared = await prepare(one);
    expect(await eventsOf(() => one.call(atomic, {}, prepared))).toEqual([
      expect.objectContaining({ type, outcome: 'not-applied' }),
    ]);
  });
});
