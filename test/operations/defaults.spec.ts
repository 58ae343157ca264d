import {
  AtomicRedis,
  defineScript,
  NotReplicatedError,
  OutcomeUnknownError,
  RedisUnavailableError,
  TransferPendingError,
  type AtomicRedisOptions,
  type OperationOptions,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

const set = defineScript({
  name: 'test.set',
  keys: ['key'],
  args: [],
  lua: `return redis.call('SET', KEYS[1], 'v')`,
  reply: String,
});

type Call = (redis: AtomicRedis, options: OperationOptions) => Promise<unknown>;

/** A call of each service that has defaults, or two where they go different ways. Each changes something. */
const CALLS: readonly (readonly [name: keyof AtomicRedisOptions & keyof AtomicRedis, call: Call])[] = [
  ['counters', ({ counters }, options) => counters.add('n', 1, options)],
  ['counters', ({ counters }, options) => counters.addAll([{ key: 'all', amount: 1 }], options)],
  ['limits', ({ limits }, options) => limits.take({ key: 'u', limit: 9, perMs: 60_000 }, options)],
  [
    'limits',
    ({ limits }, options) =>
      limits.reserve([{ key: 'r', limit: 9, perMs: 60_000 }], { ttlMs: 60_000, ...options }),
  ],
  ['scripts', ({ scripts }, options) => scripts.run(set, { keys: { key: 'script' } }, options)],
  ['queues', ({ queues }, options) => queues.get('q').push('job', options)],
  ['values', ({ values }, options) => values.getAndSet('value', 'v', options)],
  [
    'auditedHashes',
    ({ auditedHashes }, options) =>
      auditedHashes.set('hash', 'f', String(Math.random()), { log: 'hash:log', ...options }),
  ],
  [
    'transfers',
    ({ transfers }, options) => transfers.transfer({ from: 'a', to: 'b', amount: 1, min: -99 }, options),
  ],
  [
    'reservations',
    ({ reservations }, options) => reservations.hold('stock', 1, { ttlMs: 60_000, min: -99, ...options }),
  ],
];

/** A call whose option of that name makes a difference, beside those of `CALLS`. */
const DURABLE: typeof CALLS = [
  ...CALLS,
  [
    'transfers',
    ({ transfers }, options) => transfers.acrossSlots({ from: 'c', to: 'd', amount: 1, min: -99 }, options),
  ],
  ['shadowKeys', ({ shadowKeys }, options) => shadowKeys.replace('shadow', { f: 'v' }, options)],
  [
    'transactions',
    ({ transactions }, { durability }) =>
      transactions.run(['tx'], (tx) => void tx.write.set('tx', 'v'), {
        ...(durability !== undefined && { durability }),
      }),
  ],
  [
    'idempotency',
    ({ idempotency }, { durability }) =>
      idempotency.run(String(Math.random()), () => 1, { ...(durability !== undefined && { durability }) }),
  ],
];
const MOVE: Call = ({ lists }, options) => lists.move('from', 'to', options);

/** Errors of those that tell otherwise that replicas did not have it. */
const OTHER_ERRORS: Readonly<Record<string, string>> = {
  'transfers 10': TransferPendingError.name,
  'idempotency 13': RedisUnavailableError.name,
};

/** No replica is there. */
const unreachable = { replicas: 1, timeoutMs: 10 };

describe('an option of the module, of a service or of a call', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    await redis.client.set('stock', 9);
    await redis.client.rpush('from', 'element', 'another');
  });
  afterEach(() => proxy.stop());

  const start = async (options: Partial<AtomicRedisOptions>): Promise<AtomicRedis> => {
    const app = await boot({ connection: proxy.url, timeoutMs: 20_000, namespace: 'defaults:', ...options });
    return app.get(AtomicRedis);
  };
  /** The same default for every service. */
  const services = ({ durability, ...rest }: OperationOptions): Partial<AtomicRedisOptions> => ({
    ...Object.fromEntries(DURABLE.map(([name]) => [name, { ...rest, durability }])),
    transactions: { durability },
    idempotency: { durability },
    lists: rest,
    permits: rest.timeoutMs === undefined ? {} : { timeoutMs: rest.timeoutMs },
  });
  /** How a call ends: `done`, or the name of its error. */
  const endOf = async (calling: Promise<unknown>): Promise<string> =>
    await calling.then(
      () => 'done',
      (error: Error) => error.constructor.name,
    );
  const endsOf = async (
    app: AtomicRedis,
    calls: typeof CALLS,
    options: OperationOptions,
  ): Promise<object> => {
    const ends: Record<string, string> = {};
    for (const [i, [name, call]] of calls.entries()) ends[`${name} ${i}`] = await endOf(call(app, options));
    return ends;
  };
  const all = (calls: typeof CALLS, end: string): object =>
    Object.fromEntries(
      calls.map(([name], i) => {
        const title = `${name} ${i}`;
        return [title, end === 'done' ? end : (OTHER_ERRORS[title] ?? end)];
      }),
    );

  it.each([
    ['the module has all calls wait for replicas', { durability: unreachable }, {}, NotReplicatedError.name],
    [
      'a service has its calls wait for none, over the module',
      { durability: unreachable, ...services({ durability: false }) },
      {},
      'done',
    ],
    [
      'a service has its calls wait for replicas, where the module asks for none',
      services({ durability: unreachable }),
      {},
      NotReplicatedError.name,
    ],
    ['a call waits for none, over the module', { durability: unreachable }, { durability: false }, 'done'],
    [
      'a call waits for replicas, over its service',
      services({ durability: false }),
      { durability: unreachable },
      NotReplicatedError.name,
    ],
    ['no call waits by default', {}, {}, 'done'],
  ] as const)('[MOD-13] durability: %s', async (_, module, call, end) => {
    const app = await start(module);
    expect(await endsOf(app, DURABLE, call)).toEqual(all(DURABLE, end));
  });

  it.each([
    ['the module has no call sent again', { deduplicate: false }, {}, OutcomeUnknownError.name],
    [
      'a service has its calls sent again, over the module',
      { deduplicate: false, ...services({ deduplicate: true }) },
      {},
      'done',
    ],
    [
      'a call is sent again, over its service',
      services({ deduplicate: false }),
      { deduplicate: true },
      'done',
    ],
    ['a call is not sent again, over the module', {}, { deduplicate: false }, OutcomeUnknownError.name],
    ['all calls are sent again by default', {}, {}, 'done'],
  ] as const)('[MOD-13] deduplicate, after a lost reply: %s', async (_, module, call, end) => {
    const app = await start(module);
    for (const [name, one] of [...CALLS, ['lists', MOVE] as const]) {
      const lost = proxy.loseReplies({ match: (command) => command.name === 'EVALSHA' });
      expect([name, await endOf(one(app, call))]).toEqual([name, end]);
      expect(lost.count).toBe(1);
    }
  });

  it.each([
    ['the first', [{ durability: false }, {}], ['done', NotReplicatedError.name]],
    ['the second', [{}, { durability: false }], [NotReplicatedError.name, 'done']],
  ] as const)(
    '[MOD-13] durability, of two pushes made together: %s waits for none, and the other as its service says',
    async (_, options, ends) => {
      const { queues } = await start({ queues: { durability: unreachable } });
      const queue = queues.get('q');
      expect(await Promise.all(options.map((each) => endOf(queue.push('job', each))))).toEqual(ends);
    },
  );

  it('[DUR-2] a call that changed nothing is answered, whether or not replicas have what it found', async () => {
    const { values } = await start({ durability: unreachable });
    expect(await values.compareAndSet('value', 'another', 'v')).toMatchObject({ swapped: false });
  });

  it('[MOD-13] deduplicate of queues is that of pushes: a take whose reply is lost is sent again', async () => {
    const { queues } = await start({ deduplicate: false });
    const queue = queues.get('q');
    await queue.push('job');
    const lost = proxy.loseReplies({ match: (command) => command.name === 'EVALSHA' });
    const job = await queue.take({ leaseMs: 60_000 });
    expect(lost.count).toBe(1);
    expect(job).toMatchObject({ payload: 'job', deliveries: 1 });
  });

  /** Far below the 5 s that hold where nothing says otherwise, and above the 300 ms of the rows. */
  const SOON_MS = 4_000;

  it.each([
    ['the module says when all calls end', { timeoutMs: 300 }, {}],
    ['a service says it for its calls, over the module', services({ timeoutMs: 300 }), {}],
    ['a call says it, over the module', { timeoutMs: 60_000 }, { timeoutMs: 300 }],
    ['a call says it, over its service', services({ timeoutMs: 60_000 }), { timeoutMs: 300 }],
  ] as const)(
    '[MOD-13] timeoutMs, without an answer: %s',
    async (_, module, call) => {
      const app = await start({ ...module, lazyConnect: true });
      const calls: typeof CALLS = [
        ...DURABLE.filter(([name]) => name !== 'transactions' && name !== 'idempotency'),
        ['lists', MOVE],
        ['permits', ({ permits }, own) => permits.tryAcquire('p', own)],
      ];
      redis.server.pause();
      try {
        const began = performance.now();
        const ends = await Promise.all(calls.map(async ([, one]) => await endOf(one(app, call))));
        expect(performance.now() - began).toBeLessThan(SOON_MS);
        for (const end of ends)
          expect(
            [OutcomeUnknownError, RedisUnavailableError, TransferPendingError].map(({ name }) => name),
          ).toContain(end);
      } finally {
        redis.server.resume();
      }
    },
    20_000,
  );
});
