import { Redis } from 'ioredis';
import { ConfigurationError, RedisUnavailableError, type AtomicRedis } from '../../lib/index.js';
import { checkConnection } from '../../lib/connection/connection-check.js';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisServer,
} from '../../lib/testing/index.js';
import { useBoot } from '../support/boot.js';
import { startFailoverPair, type FailoverPair } from '../support/failover-pair.js';
import { connectionTo } from '../support/library-connection.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const NO_SUCH_COMMAND = '-ERR unknown command\r\n';

describe('a connection is ready only after its checks', () => {
  const redis = useRedis();
  const run = useBoot();
  const { boot, bootError } = run;
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
  });
  afterEach(async () => {
    await proxy.stop();
    await redis.client.call('ACL', 'DELUSER', 'app');
  });

  const user = (...rules: string[]) =>
    redis.client.call('ACL', 'SETUSER', 'app', 'reset', 'on', '>p', ...rules);
  const asUser = () => ({ host: proxy.host, port: proxy.port, username: 'app', password: 'p' });

  describe('for the database', () => {
    it.each([
      ['as an option', () => ({ host: proxy.host, port: proxy.port, db: 99 })],
      ['in a URL', () => `${proxy.url}/99`],
      [
        'of an existing client',
        () => new Redis({ host: proxy.host, port: proxy.port, db: 99, lazyConnect: true }),
      ],
    ])(
      '[SRV-10] an application does not start on a database out of range, given %s',
      async (_, connection) => {
        const error = await bootError({ connection: connection(), namespace: 'atomic:', timeoutMs: 30_000 });
        expect(error).toBeInstanceOf(ConfigurationError);
        expect(error.message).toMatch(/database 99.*DB index is out of range/);
      },
    );

    it('[SRV-10] an application does not start as a user that may not SELECT', async () => {
      await user('~*', '&*', '+@all', '-select');
      const error = await bootError({
        connection: { ...asUser(), db: 3 },
        namespace: 'atomic:',
        timeoutMs: 30_000,
      });
      expect(error).toBeInstanceOf(ConfigurationError);
      expect(error.message).toMatch(/database 3.*NOPERM/);
      const { redis: services } = await boot({ connection: asUser(), namespace: 'atomic:' });
      expect((await services.counters.add('c', 1)).value).toBe(1);
    });

    it('[SRV-10] nothing is written to database 0 when the right to SELECT is revoked later', async () => {
      await user('~*', '&*', '+@all');
      const { redis: services } = await boot({
        connection: { ...asUser(), db: 3 },
        namespace: 'atomic:',
        timeoutMs: 3_000,
      });
      await services.counters.add('c', 1);
      await services.transactions.run(['t'], (tx) => void tx.write.set('t', 1));
      await redis.client.call('ACL', 'SETUSER', 'app', '-select');
      await redis.client.client('KILL', 'USER', 'app');
      await waitFor('the loss is noticed', async () => (await services.status({ timeoutMs: 50 })).error);
      const refused = await Promise.allSettled([
        services.counters.add('c', 1),
        services.transactions.run(['t'], (tx) => void tx.write.set('t', 2), { timeoutMs: 3_000 }),
        services.lists.move('from', 'to', { waitMs: 500 }),
      ]);
      for (const { reason } of refused as PromiseRejectedResult[])
        expect(reason).toMatchObject({ outcome: 'not-applied', retryable: true });
      const [{ reason: ofCounter }] = refused as [PromiseRejectedResult, ...unknown[]];
      expect(ofCounter).toBeInstanceOf(RedisUnavailableError);
      // In words of ours or of the client, whichever was refused last.
      expect(String(ofCounter)).toMatch(/NOPERM/);
      expect(await redis.client.keys('*')).toEqual([]);
      await redis.client.call('ACL', 'SETUSER', 'app', '+select');
      await waitFor('it works again', () => services.counters.add('c', 1).then(({ value }) => value === 2));
      expect(await redis.client.keys('*')).toEqual([]);
    });
  });

  describe('for the role', () => {
    let replica: RedisServer;
    let control: Redis;

    beforeAll(async () => {
      const { host, port } = redis.server;
      replica = await startRedisServer({
        binary: process.env['TEST_REDIS_BINARY'],
        args: ['--replicaof', `${host} ${port}`, '--repl-diskless-sync-delay', '0'],
      });
      control = new Redis(replica.url);
      await waitFor('the replica', async () =>
        (await control.info('replication')).includes('link_status:up'),
      );
    });
    afterAll(async () => {
      control?.disconnect();
      await replica?.stop();
    });
    beforeEach(() => proxy.moveTo(replica));

    it('[SRV-11] an application does not start at a replica, and the error names its master', async () => {
      const error = await bootError({ connection: proxy.url, namespace: 'atomic:', timeoutMs: 2_000 });
      expect(error).toBeInstanceOf(ConfigurationError);
      expect(error.message).toMatch(`is a replica of 127.0.0.1:${redis.server.port}`);
    });

    it('[SRV-11] an application that starts during a failover waits for the master', async () => {
      const starting = boot({ connection: proxy.url, namespace: 'atomic:', timeoutMs: 20_000 });
      await waitFor('some attempts', () => proxy.connections > 3);
      proxy.moveTo(redis.server);
      const { redis: services } = await starting;
      expect((await services.counters.add('c', 1)).value).toBe(1);
    });

    it.each([
      ['INFO is refused', ['INFO']],
      ['INFO and ROLE are refused', ['INFO', 'ROLE']],
    ])('[SRV-11] a replica is recognised where %s', async (_, names) => {
      proxy.answer(NO_SUCH_COMMAND, { match: ({ name }) => names.includes(name), times: Infinity });
      const error = await bootError({ connection: proxy.url, namespace: 'atomic:', timeoutMs: 2_000 });
      expect(error.message).toMatch(/is a replica/);
      proxy.moveTo(redis.server);
      const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
      expect((await services.status()).servers).toMatchObject([{ role: 'master' }]);
      expect(await redis.client.keys('*')).toEqual([]);
    });

    it('[SRV-11] a server whose role cannot be determined is used, and the log says so', async () => {
      const names = ['INFO', 'ROLE', 'SET'];
      proxy.moveTo(redis.server);
      proxy.answer('-NOPERM no\r\n', { match: ({ name }) => names.includes(name), times: Infinity });
      const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
      expect((await services.status()).servers).toMatchObject([{ role: undefined }]);
      expect(run.lines.join('\n')).toMatch(/warn: .*does not tell whether it is the master/);
    });

    it('[SRV-11] a server that refuses writes for another reason is still a master', async () => {
      proxy.moveTo(redis.server);
      const client = new Redis(proxy.url, { enableReadyCheck: false });
      proxy.answer(NO_SUCH_COMMAND, {
        match: ({ name }) => ['INFO', 'ROLE'].includes(name),
        times: Infinity,
      });
      await redis.client.config('SET', 'min-replicas-to-write', '9');
      try {
        expect(await checkConnection(client, 'absent')).toMatchObject({ role: 'master' });
      } finally {
        await redis.client.config('SET', 'min-replicas-to-write', '0');
        client.disconnect();
      }
    });
  });

  it('[SRV-12] a connection inside a MULTI is discarded before anything is sent on it', async () => {
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
    await services.counters.add('c', 1);
    // Acts like a proxy that lends a connection with an open MULTI.
    const left = proxy.answer('+QUEUED\r\n', { match: ({ name }) => name === 'INFO', times: 2 });
    proxy.disconnectAll();
    expect((await services.counters.add('c', 1)).value).toBe(2);
    expect(left.count).toBe(2);
  });

  it('[SRV-12] the check of rights leaves the shared connection alone, even if DISCARD is refused', async () => {
    await user('~*', '&*', '+@all', '-discard');
    const { redis: services } = await boot({ connection: asUser(), namespace: 'atomic:' });
    expect((await services.counters.add('c', 1)).value).toBe(1);
    expect(run.lines.filter((line) => line.startsWith('error'))).toEqual([
      expect.stringMatching(/: DISCARD\. /),
    ]);
    expect((await redis.client.keys('*')).filter((key) => !key.includes(':producer:'))).toEqual(['c']);
  });

  it.each(['EXEC', 'WATCH', 'MULTI'])(
    '[SRV-5] a user without the right to %s is reported at boot',
    async (name) => {
      await user('~*', '&*', '+@all', `-${name}`);
      await boot({ connection: asUser(), namespace: 'atomic:' });
      expect(run.lines.filter((line) => line.startsWith('error'))).toEqual([
        expect.stringMatching(new RegExp(`: ${name}\\. `)),
      ]);
    },
  );

  it.each([0, 2])(
    '[SRV-11] a server that answers BUSY reveals neither role nor database %s, so the boot waits for it',
    async (db) => {
      await redis.client.config('SET', 'busy-reply-threshold', '50');
      const blocker = redis.client.duplicate();
      const script = blocker.call('EVAL_RO', 'while true do end', '0').catch(() => undefined);
      const { host, port } = proxy;
      let isBusy = true;
      proxy.delay({
        match: ({ name }) => {
          // The connection has been refused by then.
          if (name === 'INFO' && isBusy) setTimeout(() => void redis.client.script('KILL'), 300);
          if (name === 'INFO') isBusy = false;
          return false;
        },
      });
      await waitFor('BUSY', () =>
        redis.client.get('x').then(
          () => false,
          (error: Error) => error.message.startsWith('BUSY'),
        ),
      );
      try {
        const { redis: services } = await boot({
          namespace: 'atomic:',
          connection: { host, port, db },
          timeoutMs: 30_000,
        });
        expect(run.lines.filter((line) => !line.startsWith('log:'))).toEqual([]);
        expect((await services.status()).servers).toMatchObject([{ role: 'master', database: db }]);
        expect((await services.status()).servers[0]!.info).toBeDefined();
      } finally {
        await redis.client.script('KILL').catch(() => undefined);
        await script;
        blocker.disconnect();
        await redis.client.config('SET', 'busy-reply-threshold', '5000');
      }
    },
  );

  it('[SRV-10] status() reports role and database', async () => {
    const { redis: services } = await boot({ connection: `${proxy.url}/3`, namespace: 'atomic:' });
    expect((await services.status()).servers).toMatchObject([{ role: 'master', database: 3 }]);
  });

  it('[SRV-10] the checks take no more round trips than ioredis needs for its own', async () => {
    const connection = connectionTo(proxy.url);
    const plain = new Redis(proxy.url, { lazyConnect: true });
    await plain.connect();
    const needed = proxy.roundTrips;
    plain.disconnect();
    const before = proxy.roundTrips;
    await connection.ready(Deadline.in(5_000));
    const used = proxy.roundTrips - before;
    await connection.close();
    expect(used).toBeLessThanOrEqual(needed);
  });
});

describe('a server that changes its role', () => {
  const { boot } = useBoot();
  let pair: FailoverPair;
  let services: AtomicRedis;

  beforeAll(async () => {
    pair = await startFailoverPair();
  });
  beforeEach(async () => {
    services = (await boot({ connection: pair.address.url, namespace: 'atomic:', timeoutMs: 20_000 })).redis;
  });
  afterAll(() => pair?.stop());

  it('[SRV-13] processes that only read do not stay with the old master', async () => {
    const read = () => services.counters.get('count');
    const readTogether = () => services.transactions.run(['count'], (tx) => tx.read.get('count'));
    await services.counters.add('count', 1);
    expect([await read(), await readTogether()]).toEqual([1, '1']);
    await pair.failOver();
    // Its answers are outdated from now on.
    await pair.replica.client.replicaof('127.0.0.1', 1);
    await pair.master.client.set('count', '1000');
    const began = performance.now();
    await waitFor(
      'both reads at the new master',
      async () => (await read()) === 1_000 && (await readTogether()) === '1000',
    );
    expect(performance.now() - began).toBeLessThan(10_000);
    await pair.replica.client.replicaof(pair.master.server.host, pair.master.server.port);
  });
});
