import { commandsSent } from '../../lib/connection/refused-commands.js';
import { AtomicRedisError, type AtomicRedis } from '../../lib/index.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { useBoot } from '../support/boot.js';
import { useRedis } from '../support/redis.js';
import { SERVICE_PROFILES } from '../support/service-profiles.js';

/** Commands that services leave out. */
const LEFT_OUT = ['INFO', 'CONFIG', 'CLIENT', 'COMMAND', 'SCRIPT', 'ACL', 'HELLO', 'ROLE', 'WAIT'];

/** The two that allow least; the matrix runs them all. */
const SHOWN = ['Amazon ElastiCache Serverless', 'Envoy, before one server'];

const PROFILES = Object.entries(SERVICE_PROFILES).filter(
  ([name]) => process.env['SERVICE_PROFILES'] === 'all' || SHOWN.includes(name),
);

/** One for every kind of connection: shared, of transactions, blocking and listening. */
const CALLS: Readonly<Record<string, (services: AtomicRedis, waitMs?: number) => Promise<void>>> = {
  'a counter': async ({ counters }) => {
    expect((await counters.add('n', 1)).value).toBe(1);
    expect(await counters.get('n')).toBe(1);
  },
  'a value': async ({ values }) => {
    expect(await values.getAndSet('v', 'x')).toBeNull();
    expect(await values.getAndSet('v', 'y')).toBe('x');
  },
  'a transaction': async ({ transactions, values }) => {
    await transactions.run(['t'], (tx) => void tx.write.set('t', 'x'));
    expect(await values.getAndSet('t', 'y')).toBe('x');
  },
  'a run': async ({ idempotency }) => {
    expect(await idempotency.run('k', () => Promise.resolve(7))).toBe(7);
    expect(await idempotency.run('k', () => Promise.reject(new Error('ran twice')))).toBe(7);
  },
  'a job': async ({ queues }) => {
    const queue = queues.get<string>('q');
    await queue.push('job');
    expect(await (await queue.take())?.ack()).toBe(true);
  },
  'a take that waits': async ({ queues }) => {
    const queue = queues.get<string>('late');
    const taken = queue.take({ waitMs: 5_000 });
    await queue.push('job');
    expect(await (await taken)?.ack()).toBe(true);
  },
  'a move that waits': async ({ lists }, waitMs = 50) => {
    expect(await lists.move('{l}a', '{l}b', { waitMs })).toBeNull();
  },
  'a replacement': async ({ shadowKeys }) => void (await shadowKeys.replace('h', { f: '1' })),
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

  const works = async (services: AtomicRedis): Promise<void> => {
    for (const call of Object.values(CALLS)) await call(services);
  };

  const told = () => run.lines.filter((line) => line.startsWith('error'));

  it.each([
    ...LEFT_OUT.map((name): [string, string[]] => [name, [name]]),
    ['all of them', LEFT_OUT] as [string, string[]],
  ])(
    '[SRV-20] everything works without %s, and the log names the missing commands that the library would use',
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

  describe.each(PROFILES)('[SRV-20] %s, imitated', (_, profile) => {
    const { missing, outsideMulti = [], ineffective = [], notAllowed = [] } = profile;
    const log = (): string => told().join('\n');

    const start = async (): Promise<AtomicRedis> => {
      leaveOut(missing);
      // One connection queues at a time: the one that asks for rights.
      let isQueueing = false;
      proxy.answer('-ERR command not supported inside transaction\r\n', {
        match: ({ name }) => {
          if (name === 'MULTI') isQueueing = true;
          if (name === 'DISCARD' || name === 'EXEC') isQueueing = false;
          return isQueueing && outsideMulti.includes(name);
        },
        times: Infinity,
      });
      proxy.answer('+OK\r\n', { match: ({ name }) => ineffective.includes(name), times: Infinity });
      if (!profile.rules) return (await boot({ namespace: 'atomic:', connection: proxy.url })).redis;
      await redis.client.call('ACL', 'SETUSER', 'app', 'reset', 'on', '>secret', ...profile.rules);
      const { host, port } = proxy;
      return (
        await boot({ namespace: 'atomic:', connection: { host, port, username: 'app', password: 'secret' } })
      ).redis;
    };

    it('the calls that the service allows work', async () => {
      const services = await start();
      for (const [name, call] of Object.entries(CALLS)) if (!notAllowed.includes(name)) await call(services);
      expect((await services.status()).servers).toMatchObject([{ role: 'master' }]);
    });

    it('the log names the missing commands and no others', async () => {
      await start();
      for (const name of profile.told ?? []) expect(log()).toContain(name);
      const used = commandsSent().filter((name) => new RegExp(`[ ,]${name}[,.]`).test(log()));
      for (const name of used) expect([...missing, ...ineffective]).toContain(name.split(' ')[0]);
      if (!profile.told) expect(told()).toEqual([]);
    });

    if (notAllowed.length > 0)
      it.each(notAllowed)('%s is refused with a clear error', async (name) => {
        const services = await start();
        // The refusal comes before the wait ends, also on a machine that stands still.
        const error: unknown = await CALLS[name]!(services, 5_000).catch((refusal: unknown) => refusal);
        expect(error).toBeInstanceOf(AtomicRedisError);
        expect(error).toMatchObject({ outcome: 'not-applied' });
      });
  });

  it('[SRV-20] without MULTI, everything but transactions works, and the log names only MULTI', async () => {
    leaveOut(['MULTI']);
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
    expect(told()).toEqual([expect.stringMatching(/: MULTI\. /)]);
    expect((await services.counters.add('n', 1)).value).toBe(1);
  });
});
