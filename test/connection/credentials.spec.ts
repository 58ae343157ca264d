import { Redis } from 'ioredis';
import type { AtomicRedisOptions } from '../../lib/index.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { useBoot } from '../support/boot.js';
import { startCluster } from '../support/cluster.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

describe('credentials as functions', () => {
  const redis = useRedis();
  const { boot, bootError } = useBoot();
  let proxy: FaultProxy;
  let valid: string;
  let asked: number;

  const rotate = async (password: string): Promise<void> => {
    valid = password;
    await redis.client.call('ACL', 'SETUSER', 'app', 'resetpass', `>${password}`);
  };
  const password = async (): Promise<string> => {
    asked++;
    return valid;
  };

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    await redis.client.call('ACL', 'SETUSER', 'app', 'reset', 'on', '~*', '&*', '+@all');
    await rotate('first@/?#%:');
    asked = 0;
  });
  afterEach(async () => {
    await redis.client.call('ACL', 'DELUSER', 'app');
    await proxy.stop();
  });

  const place = () => ({ host: proxy.host, port: proxy.port });

  it.each<[string, () => Partial<AtomicRedisOptions>]>([
    ['a URL', () => ({ connection: proxy.url, username: () => 'app', password })],
    ['options', () => ({ connection: place(), username: async () => 'app', password })],
    [
      'options with the user name',
      () => ({ connection: { ...place(), username: 'app', password: 'old' }, password }),
    ],
    [
      'an existing client',
      () => ({
        connection: new Redis({ ...place(), username: 'app', password: 'old', lazyConnect: true }),
        password,
      }),
    ],
  ])(
    '[SRV-19] a password that is rotated while connected is used by new connections, with %s',
    async (_, options) => {
      const { redis: services } = await boot({ ...options(), timeoutMs: 10_000 });
      await services.transactions.run(['t'], (tx) => void tx.write.set('t', 1));
      for (const next of ['second', 'third']) {
        await rotate(next);
        await redis.client.call('CLIENT', 'KILL', 'USER', 'app');
        await waitFor('the loss', () => services.counters.add('n', 1).then(() => true));
        await services.transactions.run(['t'], (tx) => void tx.write.set('t', next));
        expect(await redis.client.get('t')).toBe(next);
      }
    },
  );

  it('[SRV-19] the functions are called once for all connections opened together', async () => {
    const { redis: services } = await boot({
      connection: place(),
      namespace: 'atomic:',
      username: 'app',
      password,
    });
    let arrived = 0;
    let open = (): void => undefined;
    const all = new Promise<void>((resolve) => (open = resolve));
    await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        services.transactions.run([`t${i}`], async () => {
          if (++arrived === 8) open();
          await all;
        }),
      ),
    );
    expect(asked).toBeLessThan(8);
  });

  it('[SRV-19] credentials that the server refuses are requested once more, then the boot stops', async () => {
    const answers = ['stale', valid];
    const { redis: services } = await boot({
      connection: place(),
      namespace: 'atomic:',
      username: 'app',
      password: () => answers.shift() ?? valid,
      timeoutMs: 20_000,
    });
    expect((await services.counters.add('n', 1)).value).toBe(1);
    let wrong = 0;
    const error = await bootError({
      connection: place(),
      namespace: 'atomic:',
      username: 'app',
      password: () => `wrong-${++wrong}`,
      timeoutMs: 60_000,
    });
    expect(error.message).toMatch(/WRONGPASS/);
    expect(error.message).not.toMatch(/wrong-/);
    expect(wrong).toBe(2);
  });

  it('[SRV-19] an error of the function is named in the message, and the function is called again', async () => {
    let failures = 0;
    const error = await bootError({
      connection: place(),
      namespace: 'atomic:',
      username: 'app',
      password: () => Promise.reject(new Error(`vault ${++failures}`)),
      timeoutMs: 3_000,
    });
    expect(error.message).toMatch(/forRoot.password failed: vault/);
    expect(failures).toBeGreaterThan(1);
    const notText = await bootError({
      connection: place(),
      namespace: 'atomic:',
      password: () => 7 as unknown as string,
      timeoutMs: 2_000,
    });
    expect(notText.message).toMatch(/forRoot.password must return a string, and returned number/);
    const seconds = Math.round(Date.now() / 1_000) + 900;
    const inSeconds = await bootError({
      namespace: 'atomic:',
      connection: place(),
      username: 'app',
      password: () => ({ password: valid, expiresAt: seconds }),
      timeoutMs: 2_000,
    });
    expect(inSeconds.message).toContain(`expiresAt of ${seconds}, which is long past: milliseconds`);
  });

  it('[SRV-19] connections are replaced before their password expires, without a failed call', async () => {
    const tokens: string[] = [];
    const { redis: services } = await boot({
      connection: place(),
      namespace: 'atomic:',
      username: 'app',
      password: () => {
        tokens.push(valid);
        return { password: valid, expiresAt: new Date(Date.now() + 3_000) };
      },
      timeoutMs: 20_000,
    });
    await services.transactions.run(['t'], (tx) => void tx.write.set('t', 1));
    await rotate('second');
    const before = proxy.connections;
    let value = 0;
    await waitFor('a sign-in with the next one', async () => {
      value++;
      expect((await services.counters.add('n', 1)).value).toBe(value);
      return tokens.includes('second');
    });
    await waitFor('its connection', () => proxy.connections > before);
  });

  it('[SRV-19] connections to the nodes of a Cluster are replaced before their password expires, without a failed call', async () => {
    const cluster = await startCluster({ replicasPerMaster: 0 });
    const sharedIds = async (client: Redis): Promise<string[]> =>
      String(await client.call('CLIENT', 'LIST'))
        .split('\n')
        .filter((line) => / name=nestjs-atomic-redis:[^:]* /.test(line))
        .map((line) => /^id=(\d+)/.exec(line)![1]!);
    try {
      const clients = cluster.nodes.map(({ client }) => client);
      await Promise.all(
        clients.map((client) => client.call('ACL', 'SETUSER', 'app', 'on', '~*', '&*', '+@all', '>first')),
      );
      let given = 0;
      const { redis: services } = await boot({
        namespace: 'atomic:',
        connection: { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) },
        username: 'app',
        password: () => {
          given++;
          return { password: 'first', expiresAt: Date.now() + 4_000 };
        },
        timeoutMs: 20_000,
      });
      const before = (await Promise.all(clients.map(sharedIds))).flat();
      expect(before.length).toBeGreaterThanOrEqual(clients.length);
      let value = 0;
      await waitFor('new connections to every node', async () => {
        value++;
        // In many slots.
        const keys = Array.from({ length: 12 }, (_, i) => `n${i}`);
        const added = await Promise.all(keys.map((key) => services.counters.add(key, 1)));
        expect(added.map((one) => one.value)).toEqual(keys.map(() => value));
        const now = (await Promise.all(clients.map(sharedIds))).flat();
        return now.length >= clients.length && now.every((id) => !before.includes(id));
      });
      expect(given).toBeGreaterThan(1);
    } finally {
      await cluster.stop();
    }
  }, 60_000);

  it('[SRV-19] they also sign in to every node of a Cluster', async () => {
    const cluster = await startCluster({ replicasPerMaster: 0 });
    const all = (...rule: string[]) =>
      Promise.all(cluster.nodes.map(({ client }) => client.call('ACL', 'SETUSER', 'app', ...rule)));
    try {
      await all('on', '~*', '&*', '+@all', '>first');
      valid = 'first';
      const { redis: services } = await boot({
        connection: { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) },
        namespace: 'atomic:',
        username: () => 'app',
        password,
        timeoutMs: 20_000,
      });
      await services.transactions.run(['t'], (tx) => void tx.write.set('t', 1));
      await all('resetpass', '>second');
      valid = 'second';
      await Promise.all(cluster.nodes.map(({ client }) => client.call('CLIENT', 'KILL', 'USER', 'app')));
      await waitFor('the loss', () => services.counters.add('n', 1).then(() => true));
      await services.transactions.run(['t'], (tx) => void tx.write.set('t', 2));
    } finally {
      await cluster.stop();
    }
    expect(asked).toBeGreaterThan(1);
  }, 60_000);
});
