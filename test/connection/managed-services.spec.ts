import type { AtomicRedis } from '../../lib/index.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { useBoot } from '../support/boot.js';
import { useRedis } from '../support/redis.js';

/** Commands that services leave out. */
const LEFT_OUT = ['INFO', 'CONFIG', 'CLIENT', 'COMMAND', 'SCRIPT', 'ACL', 'HELLO', 'ROLE', 'WAIT'];

/** By the services' own pages; docs/servers.md names them. */
const PROFILES: Record<string, readonly string[]> = {
  'Amazon MemoryDB': ['ACL', 'CONFIG', 'DEBUG', 'MIGRATE', 'MODULE', 'REPLICAOF', 'SAVE'],
  'Google Memorystore for Redis': [
    'ACL',
    'CLIENT',
    'CLUSTER',
    'COMMAND',
    'CONFIG',
    'DEBUG',
    'OBJECT',
    'REPLICAOF',
  ],
};

describe('services that leave commands out', () => {
  const redis = useRedis();
  const run = useBoot();
  const { boot } = run;
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
  });
  afterEach(() => proxy.stop());

  const leaveOut = (names: readonly string[]) =>
    proxy.answer('-ERR unknown command, with args beginning with: \r\n', {
      match: ({ name }) => names.includes(name),
      times: Infinity,
    });

  /** Every kind of connection is used: shared, of transactions, blocking and listening. */
  async function works({
    counters,
    transactions,
    idempotency,
    queues,
    lists,
    shadowKeys,
    values,
  }: AtomicRedis): Promise<void> {
    expect((await counters.add('n', 1)).value).toBe(1);
    expect(await counters.get('n')).toBe(1);
    await transactions.run(['t'], (tx) => void tx.write.set('t', 'x'));
    expect(await values.getAndSet('t', 'y')).toBe('x');
    expect(await idempotency.run('k', () => Promise.resolve(7))).toBe(7);
    expect(await idempotency.run('k', () => Promise.reject(new Error('ran twice')))).toBe(7);
    const queue = queues.get<string>('q');
    await queue.push('job');
    expect(await (await queue.take({ timeoutMs: 5_000 }))?.ack()).toBe(true);
    expect(await lists.move('{l}a', '{l}b', { timeoutMs: 50 })).toBeNull();
    await shadowKeys.replace('h', { f: '1' });
    expect(await redis.client.hget('h', 'f')).toBe('1');
  }

  const told = () => run.lines.filter((line) => line.startsWith('error'));

  it.each([
    ...LEFT_OUT.map((name): [string, string[]] => [name, [name]]),
    ['all of them', LEFT_OUT] as [string, string[]],
  ])(
    '[SRV-20] everything works without %s, and the log names what the library would use',
    async (_, names) => {
      leaveOut(names);
      const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
      await works(services);
      const used = ['SCRIPT', 'WAIT'].filter((name) => names.includes(name));
      expect(told()).toHaveLength(used.length > 0 ? 1 : 0);
      for (const name of used) expect(told()[0]).toContain(name);
      expect(run.lines.some((line) => line.includes('INFO failed'))).toBe(names.includes('INFO'));
      expect((await services.status()).servers).toMatchObject([{ role: 'master' }]);
    },
  );

  it.each(Object.entries(PROFILES))(
    '[SRV-20] %s, imitated: everything works and the log has no alarm',
    async (_, names) => {
      leaveOut(names);
      const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
      await works(services);
      expect(run.lines).toEqual([expect.stringContaining('log: Connected')]);
    },
  );

  it('[SRV-20] a service that takes no scripts inside a MULTI is told nothing of', async () => {
    const outside = [
      'EVAL',
      'EVALSHA',
      'EVAL_RO',
      'EVALSHA_RO',
      'SCRIPT',
      'TIME',
      'WAIT',
      'SPUBLISH',
      'BLMOVE',
    ];
    // One connection queues at a time: the one that asks for rights.
    let isQueueing = false;
    proxy.answer('-ERR command not supported inside transaction\r\n', {
      match: ({ name }) => {
        if (name === 'MULTI') isQueueing = true;
        if (name === 'DISCARD' || name === 'EXEC') isQueueing = false;
        return isQueueing && outside.includes(name);
      },
      times: Infinity,
    });
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
    expect(run.lines).toEqual([expect.stringContaining('log: Connected')]);
    expect((await services.counters.add('n', 1)).value).toBe(1);
  });

  it('[SRV-20] without MULTI, what needs no transaction works, and the log names MULTI alone', async () => {
    leaveOut(['MULTI']);
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
    expect(told()).toEqual([expect.stringMatching(/: MULTI\. /)]);
    expect((await services.counters.add('n', 1)).value).toBe(1);
  });
});
