import {
  AtomicRedis,
  defineScript,
  type AtomicRedisEvent,
  type AtomicRedisOptions,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const READER = 'reader';

const length = defineScript({
  name: 'test.length',
  keys: ['list'],
  args: [],
  readOnly: true,
  lua: `return redis.call('LLEN', KEYS[1])`,
  reply: Number,
});

/** Everything that only reads, by the type of its event. */
const READS: Readonly<Record<string, (redis: AtomicRedis) => Promise<unknown>>> = {
  'counters.get': ({ counters }) => counters.get('n'),
  'reservations.list': ({ reservations }) => reservations.list('n'),
  'idempotency.inspect': async ({ idempotency }) => {
    const { expiresInMs: _, ...held } = (await idempotency.inspect('k'))!;
    return held;
  },
  'queues.counts': ({ queues }) => queues.get('q').counts(),
  'queues.listDead': ({ queues }) => queues.get('q').deadLetters.list(),
  'auditedHashes.history': ({ auditedHashes }) => auditedHashes.history('log'),
  'transfers.pending': ({ transfers }) => transfers.pending({ from: 'n' }),
  'scripts.run': ({ scripts }) => scripts.run(length, { keys: { list: 'list' } }),
};

/** Keys of the library's that hold something else than it puts there. */
const FOREIGN = [
  'atomic:holds:{n}:n',
  'atomic:queue:pending:{q}:q',
  'atomic:queue:dead:{q}:q',
  'log',
  'list',
];

describe('a read-only call', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
  });

  afterEach(() => proxy.stop());

  const start = async (options: Partial<AtomicRedisOptions> = {}): Promise<AtomicRedis> => {
    const app = await boot({
      connection: proxy.url,
      idempotency: { timeoutMs: 20_000 },
      timeoutMs: 20_000,
      ...options,
    });
    return app.get(AtomicRedis);
  };

  const seed = async ({ counters, reservations, idempotency, queues, auditedHashes }: AtomicRedis) => {
    await counters.add('n', 5);
    await reservations.hold('n', 2, { ttlMs: 60_000 });
    await idempotency.run('k', () => 1);
    await queues.get('q').push('job');
    await auditedHashes.set('h', 'f', 'v', { log: 'log' });
    await redis.client.rpush('list', 'a', 'b');
  };

  const allOf = async (atomic: AtomicRedis): Promise<unknown[]> =>
    await Promise.all(Object.values(READS).map((read) => read(atomic)));

  it('[READ-1] needs no right to write: keys to read, EVALSHA_RO, EVAL_RO, SCRIPT LOAD and its reading commands suffice', async () => {
    const writer = await start();
    await seed(writer);
    const expected = await allOf(writer);
    const rules = ['reset', 'on', '>pw', '%R~*', '&*', '-@all', '+@connection', '+info', '+time', '+@read'];
    await redis.client.call('ACL', 'SETUSER', READER, ...rules, '+evalsha_ro', '+eval_ro', '+script|load');
    const reader = await start({ connection: proxy.url.replace('//', `//${READER}:pw@`), lazyConnect: true });
    expect(await allOf(reader)).toEqual(expected);
    // Unknown to the server again, and told to it again.
    await redis.client.script('FLUSH');
    expect(await allOf(reader)).toEqual(expected);
    const counts = await countCommands(redis.client, () => allOf(reader));
    expect(counts.evalsha_ro).toBeGreaterThan(0);
    expect(Object.keys(counts)).toEqual(expect.not.arrayContaining(['evalsha', 'eval', 'eval_ro']));
  });

  it.each(Object.entries(READS))(
    '[READ-2] %s never has an unknown outcome, whether refused or unanswered',
    async (type, read) => {
      await seed(await start());
      const atomic = await start({ timeoutMs: 400, idempotency: { timeoutMs: 400 } });
      const events: AtomicRedisEvent[] = [];
      atomic.events.subscribe((event) => events.push(event));
      for (const key of FOREIGN) {
        await redis.client.del(key);
        await redis.client.sadd(key, 'other');
      }
      const outcomes: unknown[] = [];
      const tellOf = (call: Promise<unknown>): Promise<unknown> =>
        call.catch((error: { outcome: string; code: string }) => outcomes.push(error.outcome));
      await tellOf(read(atomic));
      proxy.blackHole({ match: ({ name }) => name.startsWith('EVAL'), deliver: true });
      await tellOf(read(atomic));
      expect(outcomes.length).toBeGreaterThan(0);
      expect(new Set(outcomes)).toEqual(new Set(['not-applied']));
      const told = (): AtomicRedisEvent[] => events.filter((event) => event.type === type);
      await waitFor('the events', () => told().length === 2);
      for (const event of told()) expect(event).toMatchObject({ outcome: 'not-applied' });
      expect(events.some((event) => event.type === 'outcome.resolved')).toBe(false);
    },
  );

  it('[READ-1] of a counter counts any number of expired holds, and changes none', async () => {
    const { counters } = await start();
    await counters.add('n', 7);
    const holds = Array.from({ length: 3_456 }, (_, i) => [1 + (i % 3), `${1 + (i % 3)}:hold${i}`]).flat();
    await redis.client.zadd('atomic:holds:{n}:n', ...holds);
    const expected = 7 + Array.from({ length: 3_456 }, (_, i) => 1 + (i % 3)).reduce((a, b) => a + b);
    const counts = await countCommands(redis.client, async () => {
      expect(await counters.get('n')).toBe(expected);
    });
    expect(counts.evalsha_ro).toBe(4);
    expect(await redis.client.get('n')).toBe('7');
    expect(await redis.client.zcard('atomic:holds:{n}:n')).toBe(3_456);
  });

  it('[READ-1] of a counter is exact while other callers give back expired holds', async () => {
    const [{ counters }, other] = [await start(), await start({ connection: redis.server.url })];
    await counters.add('n', 7n);
    const big = 2n ** 51n;
    const holds = Array.from({ length: 4_000 }, (_, i) => [1, `${big}:hold${i}`]).flat();
    await redis.client.zadd('atomic:holds:{n}:n', ...holds);
    // Room for some of them only.
    const room = (2n ** 63n - 1n - 7n) / big;
    const expected = 7n + (room < 4_000n ? room : 4_000n) * big;
    let pages = 0;
    const second = proxy.delay({
      match: ({ name }) => name === 'EVALSHA_RO' && ++pages === 2,
      requestMs: 1_500,
    });
    const reading = counters.getBigInt('n');
    await second.triggered;
    await other.counters.add('n', 0n);
    expect(await redis.client.zcard('atomic:holds:{n}:n')).toBe(0);
    expect(await reading).toBe(expected);
    expect(await counters.getBigInt('n')).toBe(expected);
  });
});
