import { Test, type TestingModule } from '@nestjs/testing';
import {
  AtomicRedis,
  AtomicRedisModule,
  IllegalTransactionStateError,
  type AtomicRedisEvent,
  LeaseLostError,
  type EnforceableOptions,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { ALL_OPERATIONS } from '../../lib/atomic-redis.operations.js';
import type { ScriptedOperationType } from '../../lib/observability/event-types.js';
import { runInTransactionScope } from '../../lib/runtime/transaction-scope.js';
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
  'lists.move': {
    before: ({ transactions }) =>
      transactions.run(['u:list'], (tx) => void tx.write.rpush('u:list', 'a', 'b')),
    // Its time-out is that of the wait.
    call: ({ lists }, { propagation, permit }) => lists.move('u:list', 'u:to', { propagation, permit }),
  },
};

const isQuery = (type: string): boolean => ALL_OPERATIONS.some((one) => one.type === type && !one.writes);
const ALL = Object.entries(CASES) as [ScriptedOperationType, Case][];
const QUERIES = ALL.filter(([type]) => isQuery(type));
const CHANGES = ALL.filter(([type]) => !isQuery(type));

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

  it('[SC-4] has a type of its own', () => {
    const types = ALL_OPERATIONS.map(({ type }) => type);
    expect(new Set(types).size).toBe(types.length);
  });
});

describe('the contract of scripted calls', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let module: TestingModule;
  let atomic: AtomicRedis;

  beforeAll(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    module = await Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({ connection: proxy.url, namespace: 'atomic:', timeoutMs: 20_000 }),
      ],
    }).compile();
    module.useLogger(false);
    await module.init();
    atomic = module.get(AtomicRedis);
  });

  afterEach(() => proxy.reset());

  afterAll(async () => {
    await module.close();
    await proxy.stop();
  });

  const prepare = async ({ before }: Case): Promise<never> => {
    await redis.client.flushall();
    return (await before?.(atomic)) as never;
  };

  /** What is under the users' keys, as bytes; streams without the times in their ids. */
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

  it.each(ALL)('[SC-4] %s has the effect of once when its reply is lost', async (_, one) => {
    const expected = await undisturbed(one);
    const prepared = await prepare(one);
    const lost = proxy.loseReplies(isScript);
    expect(await one.call(atomic, {}, prepared)).toEqual(expected.result);
    expect(lost.count).toBe(1);
    expect(await contents()).toEqual(expected.left);
  });

  it.each(CHANGES)('[SC-4] %s does nothing when a copy comes after it was answered', async (_, one) => {
    const prepared = await prepare(one);
    const late = proxy.deliverLate(400, isScript);
    await one.call(atomic, {}, prepared);
    // As it was before the call, so that a copy could do the same again. The markers stay.
    await redis.client.del('u:none', ...(await redis.client.keys('u:*')));
    await one.before?.(atomic);
    const before = await contents();
    expect(await late.delivered).toBe(true);
    expect(await contents()).toEqual(before);
  });

  it.each(CHANGES)(
    '[SC-4] %s is refused inside a transaction, and made with propagation "outside"',
    async (_, one) => {
      const expected = await undisturbed(one);
      const prepared = await prepare(one);
      const before = await contents();
      const inside = (options: EnforceableOptions): Promise<unknown> =>
        runInTransactionScope({}, { isOpen: true }, () => one.call(atomic, options, prepared));
      await expect(inside({})).rejects.toThrow(IllegalTransactionStateError);
      expect(await contents()).toEqual(before);
      expect(await inside({ propagation: 'outside' })).toEqual(expected.result);
    },
  );

  it.each(CHANGES)(
    '[PM-7] %s is made under a permit that is held, and refused under one that was lost',
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

  it.each(QUERIES)('[READ-1] %s is sent by EVALSHA_RO, also inside a transaction', async (_, one) => {
    const prepared = await prepare(one);
    const counts = await countCommands(redis.client, () =>
      runInTransactionScope({}, { isOpen: true }, () => one.call(atomic, {}, prepared)),
    );
    expect(counts['evalsha_ro']).toBe(1);
    expect(counts['evalsha']).toBeUndefined();
  });

  it.each(ALL)('[OBS-1] %s tells of its end by one event', async (type, one) => {
    const prepared = await prepare(one);
    const events: AtomicRedisEvent[] = [];
    const unsubscribe = atomic.events.subscribe((event) => events.push(event));
    await one.call(atomic, {}, prepared);
    await new Promise((resolve) => setImmediate(resolve));
    unsubscribe();
    expect(events).toEqual([
      expect.objectContaining({ type, outcome: isQuery(type) ? 'not-applied' : 'applied' }),
    ]);
  });
});
