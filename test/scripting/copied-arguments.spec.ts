import type { TestingModule } from '@nestjs/testing';
import type { Redis } from 'ioredis';
import { AtomicRedis, defineScript, type AtomicRedisEvent, type ResultCodec } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { copyBytes } from '../../lib/scripting/copies.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const append = defineScript({
  name: 'test.append',
  keys: ['list', '...copies'],
  args: ['first', '...rest'],
  lua: `
for i = 1, #KEYS do redis.call('RPUSH', KEYS[i], unpack(ARGV)) end
return #ARGV`,
  reply: Number,
});

const join = defineScript({
  name: 'test.join',
  keys: ['list'],
  args: ['...separators'],
  readOnly: true,
  lua: `return table.concat(redis.call('LRANGE', KEYS[1], 0, -1), ARGV[1])`,
  reply: String,
});

/** One public call. `args` makes new arguments for each call. */
interface Case {
  readonly before?: (redis: AtomicRedis) => Promise<unknown>;
  readonly args: (prepared: never) => unknown[];
  readonly call: (redis: AtomicRedis, ...args: never[]) => Promise<unknown>;
  /** Made with the call's result. */
  readonly afterwards?: (result: never) => Promise<unknown>;
}

const text = (value: string): Buffer => Buffer.from(value);
const LARGE = 'x'.repeat(10_000);
const options = (more: object = {}): object => ({
  timeoutMs: 20_000,
  deduplicate: true,
  ...more,
});
const binary = (more: object = {}): object => options({ encoding: 'buffer', ...more });

const CASES: Readonly<Record<string, Case>> = {
  'values.compareAndSet': {
    before: ({ values }) => values.getAndSet('u:k', 'old'),
    args: () => ['u:k', text('old'), text(LARGE), binary({ ttlMs: 60_000 })],
    call: ({ values }, ...args) => values.compareAndSet(...(args as unknown as ['', '', ''])),
  },
  'values.compareAndSet, refused': {
    before: ({ values }) => values.getAndSet('u:k', 'old'),
    args: () => ['u:k', text('other'), text('new'), binary()],
    call: ({ values }, ...args) => values.compareAndSet(...(args as unknown as ['', '', ''])),
  },
  'values.compareAndDelete': {
    before: ({ values }) => values.getAndSet('u:k', 'old'),
    args: () => ['u:k', text('old'), binary()],
    call: ({ values }, ...args) => values.compareAndDelete(...(args as unknown as ['', ''])),
  },
  'values.compareAndSetField': {
    args: () => ['u:h', text('field'), null, text('new'), binary()],
    call: ({ values }, ...args) => values.compareAndSetField(...(args as unknown as ['', '', null, ''])),
  },
  'values.compareAndDeleteField': {
    before: ({ values }) => values.compareAndSetField('u:h', 'field', null, 'old'),
    args: () => ['u:h', text('field'), text('old'), binary()],
    call: ({ values }, ...args) => values.compareAndDeleteField(...(args as unknown as ['', '', ''])),
  },
  'values.getAndSet': {
    before: ({ values }) => values.getAndSet('u:k', 'old'),
    args: () => ['u:k', text('new'), binary({ keepTtl: false })],
    call: ({ values }, ...args) => values.getAndSet(...(args as unknown as ['', ''])),
  },
  'values.getAndDelete': {
    before: ({ values }) => values.getAndSet('u:k', 'old'),
    args: () => ['u:k', binary()],
    call: ({ values }, ...args) => values.getAndDelete(...(args as unknown as [''])),
  },
  'values.getAndExpire': {
    before: ({ values }) => values.getAndSet('u:k', 'old'),
    args: () => ['u:k', binary({ expireAt: new Date('2050-01-01') })],
    call: ({ values }, ...args) => values.getAndExpire(...(args as unknown as ['', { ttlMs: 1 }])),
  },
  'auditedHashes.set': {
    before: ({ values }) => values.compareAndSetField('u:h', 'f', null, 'old'),
    args: () => ['u:h', 'f', text('new'), binary({ log: 'u:log', actor: 'ada' })],
    call: ({ auditedHashes }, ...args) =>
      auditedHashes.set(...(args as unknown as ['', '', '', { log: '' }])),
  },
  'auditedHashes.delete': {
    before: ({ values }) => values.compareAndSetField('u:h', 'f', null, 'old'),
    args: () => ['u:h', 'f', binary({ log: 'u:log' })],
    call: ({ auditedHashes }, ...args) => auditedHashes.delete(...(args as unknown as ['', '', { log: '' }])),
  },
  'auditedHashes.update': {
    args: () => ['u:h', { f: text('new'), g: text(LARGE), h: null }, binary({ log: 'u:log' })],
    call: ({ auditedHashes }, ...args) => auditedHashes.update(...(args as unknown as ['', {}, { log: '' }])),
  },
  'auditedHashes.update that deletes nothing': {
    args: () => ['u:h', { f: null }, binary({ log: 'u:log' })],
    call: ({ auditedHashes }, ...args) => auditedHashes.update(...(args as unknown as ['', {}, { log: '' }])),
  },
  'auditedHashes.history': {
    before: ({ auditedHashes }) => auditedHashes.set('u:h', 'f', 'v', { log: 'u:log' }),
    args: () => ['u:log', { encoding: 'buffer', limit: 10, timeoutMs: 20_000 }],
    call: ({ auditedHashes }, ...args) => auditedHashes.history(...(args as unknown as [''])),
  },
  'lists.move': {
    before: ({ scripts }) =>
      scripts.run(append, { keys: { list: 'u:a', copies: [] }, args: { first: 'x', rest: ['y'] } }),
    args: () => ['u:a', 'u:b', { from: 'right', to: 'left', timeoutMs: 0, encoding: 'buffer' }],
    call: ({ lists }, ...args) => lists.move(...(args as unknown as ['', ''])),
  },
  'scripts.run': {
    args: () => [
      {
        keys: { list: 'u:a', copies: ['u:b'] },
        args: { first: text('1'), rest: [text('2'), text(LARGE), 4] },
      },
      options(),
    ],
    call: ({ scripts }, ...args) => scripts.run(append, ...(args as unknown as [never])),
  },
  'scripts.run of a read-only script': {
    before: ({ scripts }) =>
      scripts.run(append, { keys: { list: 'u:a', copies: [] }, args: { first: 'x', rest: ['y'] } }),
    args: () => [{ keys: { list: 'u:a' }, args: { separators: [text('-')] } }, options()],
    call: ({ scripts }, ...args) => scripts.run(join, ...(args as unknown as [never])),
  },
  'counters.add': {
    args: () => ['u:c', 7, options({ max: 5, onLimit: 'clamp', ttlMs: 60_000, ttl: 'sliding' })],
    call: ({ counters }, ...args) => counters.add(...(args as unknown as ['', 1])),
  },
  'counters.add that waits for replicas': {
    args: () => ['u:c', 7, options({ durability: { replicas: 1, timeoutMs: 50 } })],
    call: ({ counters }, ...args) => counters.add(...(args as unknown as ['', 1])),
  },
  'counters.addUndoable, undone': {
    args: () => ['u:c', 7n, options()],
    call: ({ counters }, ...args) => counters.addUndoable(...(args as unknown as ['', 1])),
    afterwards: ({ undo }: { undo: () => Promise<boolean> }) => undo(),
  },
  'counters.addAll': {
    args: () => [
      [
        { key: 'u:c', amount: 1, max: 5 },
        { key: 'u:d', amount: 2, ttlMs: 60_000 },
      ],
      options({ durability: { replicas: 1, timeoutMs: 50 } }),
    ],
    call: ({ counters }, ...args) => counters.addAll(...(args as unknown as [[]])),
  },
  'counters.addAllUndoable, undone': {
    args: () => [[{ key: 'u:c', amount: 1, max: 5 }], options()],
    call: ({ counters }, ...args) => counters.addAllUndoable(...(args as unknown as [[]])),
    afterwards: ({ undo }: { undo: () => Promise<boolean> }) => undo(),
  },
  'counters.run at a bound': {
    args: () => ['u:c', 7, () => 'ran', options({ max: 5 })],
    call: ({ counters }, ...args) => counters.run(...(args as unknown as ['', 1, () => 1])),
  },
  'counters.run, undone': {
    args: () => ['u:c', 7, () => Promise.reject(new Error('mine')), options({ max: 9, onError: 'undo' })],
    call: ({ counters }, ...args) => counters.run(...(args as unknown as ['', 1, () => 1])),
  },
  'counters.get': {
    before: ({ counters }) => counters.add('u:c', 7),
    args: () => ['u:c', { timeoutMs: 20_000 }],
    call: ({ counters }, ...args) => counters.get(...(args as unknown as [''])),
  },
  'counters.reset': {
    before: ({ counters }) => counters.add('u:c', 7),
    args: () => ['u:c', options()],
    call: ({ counters }, ...args) => counters.reset(...(args as unknown as [''])),
  },
  'reservations.hold': {
    before: ({ counters }) => counters.add('u:c', 7),
    args: () => ['u:c', 2, options({ ttlMs: 60_000, min: 1, durability: { replicas: 1, timeoutMs: 50 } })],
    call: ({ reservations }, ...args) => reservations.hold(...(args as unknown as ['', 1, { ttlMs: 1 }])),
  },
  'reservations.release': {
    before: async ({ counters, reservations }) => {
      await counters.add('u:c', 7);
      return (await reservations.hold('u:c', 2, { ttlMs: 60_000 })).id;
    },
    args: (id) => [id, options({ durability: { replicas: 1, timeoutMs: 50 } })],
    call: ({ reservations }, ...args) => reservations.release(...(args as unknown as [''])),
  },
  'transfers.transfer': {
    before: ({ counters }) => counters.add('u:c', 7),
    args: () => [
      { from: 'u:c', to: 'u:d', amount: 2, min: 1 },
      options({ audit: { log: 'u:log', maxEntries: 5, reference: 'r' } }),
    ],
    call: ({ transfers }, ...args) => transfers.transfer(...(args as unknown as [never])),
  },
  'transfers.transferAll': {
    before: ({ counters }) => counters.add('u:c', 7),
    args: () => [[{ from: 'u:c', to: 'u:d', amount: 2n, min: 1n }], options()],
    call: ({ transfers }, ...args) => transfers.transferAll(...(args as unknown as [never])),
  },
  'transfers.acrossSlots': {
    before: ({ counters }) => counters.add('u:c', 7),
    args: () => [
      { from: 'u:c', to: 'u:d', amount: 2, min: 1, reference: 'r' },
      { timeoutMs: 20_000, durability: { replicas: 1, timeoutMs: 50 } },
    ],
    call: ({ transfers }, ...args) => transfers.acrossSlots(...(args as unknown as [never])),
  },
  'transfers.pending': {
    args: () => [{ from: 'u:c', minAgeMs: 0, limit: 10, timeoutMs: 20_000 }],
    call: ({ transfers }, ...args) => transfers.pending(...args),
  },
  'transfers.recover': {
    args: () => [{ from: 'u:c', minAgeMs: 0, timeoutMs: 20_000, durability: { replicas: 1, timeoutMs: 50 } }],
    call: ({ transfers }, ...args) => transfers.recover(...args),
  },
};

/** Changes everything in it that can be changed, wherever it is. */
function spoil(value: unknown): unknown {
  if (Buffer.isBuffer(value)) value.fill('!');
  else if (value instanceof Date) value.setTime(0);
  else if (Array.isArray(value)) {
    value.forEach((one, i) => (value[i] = spoil(one)));
    value.push('one more');
  } else if (typeof value === 'object' && value !== null) {
    const object = value as Record<string, unknown>;
    for (const name of Object.keys(object)) object[name] = spoil(object[name]);
  } else if (typeof value === 'boolean') return !value;
  else if (typeof value === 'number') return -1;
  else if (typeof value === 'bigint') return -1n;
  else if (value === 'buffer') return 'utf8';
  else return 'spoiled';
  return value;
}

/** Without what is different each time. */
const comparable = (result: unknown): unknown => {
  if (result instanceof Error) {
    const { name, message, outcome, result: held, ...rest } = result as Error & Record<string, unknown>;
    const { cause: _, what: __, transfer: ___, ...fields } = rest;
    return { name, message: message.replace(/\d{10,}[-\w]*/, ''), outcome, held: comparable(held), fields };
  }
  if (Buffer.isBuffer(result) || typeof result !== 'object' || result === null) return result;
  if (Array.isArray(result)) return result.map(comparable);
  const { id: _, time: __, expiresAtMs: ___, undo: ____, ...rest } = result as Record<string, unknown>;
  return Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, comparable(value)]));
};

describe('the arguments of a call', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let module: TestingModule;
  let events: AtomicRedisEvent[];
  let encoded: Buffer[];

  beforeAll(async () => {
    encoded = [];
    const codec: ResultCodec = {
      encode: (value) => {
        const bytes = Buffer.from(String(value));
        encoded.push(bytes);
        return bytes;
      },
      decode: (bytes) => bytes.toString(),
    };
    proxy = await startFaultProxy({ target: redis.server });
    module = await boot({ connection: proxy.url, timeoutMs: 20_000, idempotency: { codec } });
    module.get(AtomicRedis).events.subscribe((event) => events.push(event));
  });

  afterAll(() => proxy.stop());

  /** Returns the outcome of one call: its result, its event, and the state of Redis after it. */
  const outcomeOf = async (
    { before, args, call, afterwards }: Case,
    around: (made: () => Promise<unknown>, args: unknown[]) => Promise<unknown>,
  ): Promise<object> => {
    await redis.client.flushall();
    const atomic = module.get(AtomicRedis);
    const given = args((await before?.(atomic)) as never);
    await new Promise((resolve) => setImmediate(resolve));
    events = [];
    const result = await around(() => call(atomic, ...(given as never[])), given).catch(
      (error: unknown) => error,
    );
    const after = await afterwards?.(result as never);
    await new Promise((resolve) => setImmediate(resolve));
    const outcomes = events.flatMap((event) =>
      'durationMs' in event && 'outcome' in event ? [[event.type, event.outcome]] : [],
    );
    return { result: comparable(result), after, outcomes, held: await heldBy(redis.client) };
  };

  const spoiled = async (made: () => Promise<unknown>, args: unknown[]): Promise<unknown> => {
    const result = made();
    spoil(args);
    return await result;
  };

  it.each(Object.entries(CASES))(
    '[ARG-2] %s, changed in the same turn, keep their first values',
    async (_, one) => {
      const expected = await outcomeOf(one, (made) => made());
      expect(await outcomeOf(one, spoiled)).toEqual(expected);
    },
  );

  it.each(Object.entries(CASES))(
    '[ARG-2] %s, changed while there is no connection, keep their first values',
    async (_, one) => {
      const expected = await outcomeOf(one, (made) => made());
      const cutOff = async (made: () => Promise<unknown>, args: unknown[]): Promise<unknown> => {
        proxy.refuseConnections(true);
        proxy.disconnectAll();
        const result = spoiled(made, args);
        setTimeout(() => proxy.refuseConnections(false), 20);
        return await result;
      };
      expect(await outcomeOf(one, cutOff)).toEqual(expected);
    },
  );

  it('[ARG-2] bytes that a result codec changes after returning them are stored with their first values', async () => {
    const { idempotency } = module.get(AtomicRedis);
    events = [];
    const fault = proxy.loseReplies({ match: ({ name }) => name === 'EVALSHA', times: 2 });
    const first = idempotency.run('copied', () => 'result');
    await waitFor('the result to be encoded', () => encoded.length === 1);
    encoded[0]!.fill('!');
    expect(await first).toBe('result');
    expect(await idempotency.run('copied', () => 'again')).toBe('result');
    fault.cancel();
  });

  it('[ARG-2] are copied once if they are large, and never if they are text', () => {
    const given = Buffer.from(LARGE);
    const copy = copyBytes(given);
    expect(copy).toEqual(given);
    expect(copy).not.toBe(given);
    expect(copyBytes(copy)).toBe(copy);
    expect(copyBytes('text')).toBe('text');
  });
});

/** Everything under the users' keys. */
async function heldBy(client: Redis): Promise<Record<string, unknown>> {
  const held: Record<string, unknown> = {};
  for (const key of (await client.keys('u:*')).toSorted()) {
    const type = await client.type(key);
    const ttl = await client.pttl(key);
    const value =
      type === 'string'
        ? await client.get(key)
        : type === 'hash'
          ? await client.hgetall(key)
          : type === 'list'
            ? await client.lrange(key, 0, -1)
            : (await client.xrange(key, '-', '+')).map(([, fields]) =>
                fields.filter((field) => !/^\d{13}$/.test(field)),
              );
    held[key] = { type, value, hasTtl: ttl > 0 };
  }
  return held;
}
