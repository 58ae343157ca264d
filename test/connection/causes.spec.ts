import { connect } from 'node:net';
import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import {
  ConfigurationError,
  InvalidArgumentError,
  RedisUnavailableError,
  type AtomicRedisOptions,
} from '../../lib/index.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { useBoot } from '../support/boot.js';
import { freePort } from '../support/free-port.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const SECRET = 'S3cr/et@?#%zz';

/** Everything that a logger might print of an error. */
const printed = (error: unknown): string => inspect(error, { depth: 10, showHidden: true });

describe('an error without a connection names its cause:', () => {
  const redis = useRedis();
  const { boot, bootError } = useBoot();
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
  });
  afterEach(() => proxy.stop());

  /**
   * Starts again only where no attempt to connect has ended in time, as on a machine that stalls:
   * then nobody can know the cause.
   */
  const expectBootError = async (connection: AtomicRedisOptions['connection'], cause: RegExp) => {
    const error = await waitFor('an attempt that ends in time', async () => {
      const failure = await bootError({ connection, namespace: 'atomic:', timeoutMs: 700 });
      return !/: it does not answer( the attempt to connect)?\. /.test(failure.message) && failure;
    });
    expect(error).toBeInstanceOf(RedisUnavailableError);
    expect(error.message).toMatch(cause);
  };

  it('[SRV-18] { nodes } names a server that is not a Cluster', async () => {
    const nodes = [{ host: proxy.host, port: proxy.port }];
    const error = await bootError({ connection: { nodes }, namespace: 'atomic:', timeoutMs: 30_000 });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error.message).toMatch(/cluster support disabled/);
  });

  it('[SRV-18] the port does not speak TLS', async () => {
    await expectBootError(`rediss://127.0.0.1:${redis.server.port}`, /TLS/);
  });

  it('[SRV-18] the host name does not exist', async () => {
    await expectBootError('redis://no-such-host.invalid', /ENOTFOUND|EAI_AGAIN/);
  });

  it('[SRV-18] no server listens on the port', async () => {
    const port = await freePort();
    for (const host of ['127.0.0.1', 'localhost']) await expectBootError({ host, port }, /ECONNREFUSED/);
  });

  it('[SRV-18] the credentials are wrong, which stops the boot at once', async () => {
    await redis.client.call('ACL', 'SETUSER', 'app', 'reset', 'on', '>other', '~*', '+@all');
    const began = performance.now();
    const { host, port } = proxy;
    const error = await bootError({
      connection: { host, port, username: 'app', password: SECRET },
      namespace: 'atomic:',
      timeoutMs: 60_000,
    });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error.message).toMatch(/WRONGPASS/);
    expect(performance.now() - began).toBeLessThan(20_000);
    expect(printed(error)).not.toContain('S3cr');
    await redis.client.call('ACL', 'DELUSER', 'app');
  });

  it('[SRV-18] the server has reached its maximum number of clients', async () => {
    const { redis: services } = await boot({ connection: redis.server.url, namespace: 'atomic:' });
    const add = () => services.counters.add('n', 1, { timeoutMs: 1_000 });
    const sockets = Array.from({ length: 20 }, () =>
      connect(redis.server.port, '127.0.0.1').on('error', () => undefined),
    );
    await redis.client.config('SET', 'maxclients', '1');
    try {
      await redis.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      const told = await waitFor('an attempt that hears why', async () => {
        const error = String(await add().catch((failure: unknown) => failure));
        return /max number of clients/.test(error) && error;
      });
      expect(told).toMatch(/RedisUnavailableError/);
    } finally {
      await redis.client.config('SET', 'maxclients', '10000');
      for (const socket of sockets) socket.destroy();
    }
    expect(await waitFor('it works again', add)).toMatchObject({ value: 1 });
  });

  it('[SRV-18] the server has reached its maximum number of clients when a transaction needs another connection', async () => {
    const { redis: services } = await boot({
      namespace: 'atomic:',
      connection: redis.server.url,
      transactions: { timeoutMs: 3_000 },
    });
    await services.counters.add('n', 1);
    const work = () => services.transactions.run(['t'], (tx) => void tx.write.set('t', 1));
    try {
      await redis.client.config('SET', 'maxclients', '2');
      await expect(work()).rejects.toMatchObject({
        outcome: 'not-applied',
        message: expect.stringContaining('max number of clients') as string,
      });
    } finally {
      await redis.client.config('SET', 'maxclients', '10000');
    }
    await work();
  });

  it('[SRV-18] the server does not answer now, and an earlier attempt failed for another reason', async () => {
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:', timeoutMs: 2_000 });
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    await waitFor('the loss', async () =>
      /ECONNRESET/.test(String((await services.status({ timeoutMs: 50 })).error)),
    );
    redis.server.pause();
    proxy.refuseConnections(false);
    try {
      await waitFor('the hang', async () =>
        /not answer/.test(String((await services.status({ timeoutMs: 800 })).error)),
      );
    } finally {
      redis.server.resume();
    }
    expect((await waitFor('it works again', () => services.counters.add('n', 1))).value).toBe(1);
  });

  it('[SRV-18] the latest attempt to connect failed, and the call itself saw no attempt', async () => {
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:', timeoutMs: 2_000 });
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    const loss = async () => /ECONNRESET/.test(String((await services.status({ timeoutMs: 50 })).error));
    await waitFor('the loss', loss);
    await expect(services.counters.add('n', 1)).rejects.toThrow(/reached in time: .*ECONNRESET/);
    redis.server.pause();
    try {
      proxy.refuseConnections(false);
      // The last refusal arrives.
      await new Promise((resolve) => setTimeout(resolve, 50));
      const ofNow =
        /not answer|no attempt to connect has ended since the call began; the last one .*ECONNRESET/;
      for (let i = 0; i < 10; i++)
        await expect(services.counters.add('n', 1, { timeoutMs: 100 })).rejects.toThrow(ofNow);
      await expect(services.counters.add('n', 1)).rejects.toThrow(/not answer/);
    } finally {
      redis.server.resume();
    }
    expect((await waitFor('it works again', () => services.counters.add('n', 1))).value).toBe(1);
  });

  it('[SRV-18] the value is larger than the server accepts', async () => {
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:', timeoutMs: 5_000 });
    // Word for word the server's. It then resets the connection, which can overtake its own words.
    proxy.answer('-ERR Protocol error: invalid bulk length\r\n', {
      match: ({ name, args }) => name === 'EVALSHA' && args.some((arg) => arg.length > 1_000_000),
    });
    await expect(services.values.getAndSet('v', 'x'.repeat(2_000_000))).rejects.toMatchObject({
      message: expect.stringContaining('bulk length') as string,
      outcome: 'not-applied',
    });
  });
});

describe('the options of a connection', () => {
  const { bootError } = useBoot();

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['an empty URL', ''],
    ['an empty object', {}],
    ['a number', 6379],
    ['a list', ['redis://localhost']],
    ['a host that is not set', { host: undefined, port: 6379 }],
    ['an empty host', { host: '', port: 6379 }],
    ['a port that is not set', { port: undefined }],
    ['a port that is no number', { host: 'cache', port: Number.NaN }],
    ['a database alone', { db: 3 }],
    ['a database that is no number', { host: 'cache', db: 'three' }],
    ['a URL under another name', { url: 'redis://cache:6379' }],
    ['the options of another client', { socket: { host: 'cache', port: 6379 } }],
    ['a misspelt host', { hostname: 'cache', port: 6379 }],
    ['an empty path', { path: '' }],
    ['no Sentinels', { sentinels: [], name: 'shop' }],
    ['Sentinels without a group', { sentinels: [{ host: 'a', port: 26379 }] }],
    ['no nodes', { nodes: [] }],
    ['a node that names no server', { nodes: [{}] }],
    ['a node whose host is not set', { nodes: [{ host: undefined, port: 6379 }] }],
    ['a URL without a host', 'redis:///3'],
    ['a URL whose database is no number', 'redis://cache/shop'],
    ['a scheme in capitals, which would lose its TLS', 'REDISS://cache:6379'],
    ['a host alone', 'cache:6379'],
  ])('[MOD-9] are refused without a server: %s', async (_, connection) => {
    const error = await bootError({
      connection: connection as string,
      namespace: 'atomic:',
      lazyConnect: true,
    });
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect((error as InvalidArgumentError).argument).toMatch(/^forRoot\.connection/);
  });

  it.each([
    `redis://:${SECRET}@cache:6379`,
    `redis://app:${SECRET}@cache:6379`,
    `redis://app@corp:${SECRET}@cache:6379`,
    `redis+tls://cache:6379?password=${SECRET}`,
    'redis://:S3cr%zz@cache:6379',
    `redis://cache:6379:S3cr`,
    `S3cr`,
    `//S3cr@cache`,
  ])('[MOD-3] never show the password of %j in an error', async (connection) => {
    const error = await bootError({ connection, namespace: 'atomic:', lazyConnect: true });
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(printed(error).replace(/at .*/g, '')).not.toContain('S3cr');
  });

  it('[MOD-3] never show a password in the error about another option', async () => {
    const connection = { url: `redis://:${SECRET}@cache`, password: SECRET };
    expect(
      printed(await bootError({ connection, namespace: 'atomic:' } as object as AtomicRedisOptions)),
    ).not.toContain('S3cr');
  });

  it('[MOD-9] name a server by a client, a path or a port alone', async () => {
    const client = new Redis({ lazyConnect: true });
    for (const connection of [client, { path: '/nowhere/redis.sock' }, { port: 1 }])
      expect(await bootError({ connection, namespace: 'atomic:', timeoutMs: 100 })).toBeInstanceOf(
        RedisUnavailableError,
      );
  });
});
