import { Redis } from 'ioredis';
import { defineScript } from '../../lib/index.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { useBoot } from '../support/boot.js';
import { countCommands } from '../support/command-stats.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const LARGE = 'x'.repeat(6_000_000);
const BYTES_PER_SECOND = 2_000_000;
const PATIENT = { timeoutMs: 30_000 } as const;

const slowRead = defineScript({
  name: 'progress.slowRead',
  keys: [],
  args: ['ms'],
  readOnly: true,
  lua: `
local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end
local stop = now() + ARGV[1]
while now() < stop do end
return 1`,
  reply: Number,
});

describe('a connection is alive while there is progress', () => {
  const redis = useRedis();
  const { boot } = useBoot();
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
  });
  afterEach(() => proxy.stop());

  it('[SRV-16] a request and an answer of 6 MB over a line of 2 MB/s are sent once', async () => {
    const { redis: services } = await boot({ namespace: 'atomic:', connection: proxy.url, ...PATIENT });
    await services.values.getAndSet('v', 'first');
    proxy.limitSpeed(BYTES_PER_SECOND);
    const before = proxy.connections;
    const counts = await countCommands(redis.client, async () => {
      expect(await services.values.getAndSet('v', LARGE, PATIENT)).toBe('first');
      expect(await services.values.getAndSet('v', 'last', PATIENT)).toBe(LARGE);
    });
    expect(counts).toMatchObject({ evalsha: 2 });
    expect(proxy.connections).toBe(before);
  }, 60_000);

  it('[SRV-16] a request over a line that is slower still is given twice the time each time', async () => {
    const slow = { timeoutMs: 60_000 };
    const { redis: services } = await boot({ namespace: 'atomic:', connection: proxy.url, ...slow });
    await services.values.getAndSet('v', 'first');
    proxy.limitSpeed(130_000);
    const before = proxy.connections;
    expect(await services.values.getAndSet('v', 'x'.repeat(500_000), slow)).toBe('first');
    // Twice given up: each time a new connection asks the server, and another one takes the place.
    expect(proxy.connections - before).toBeLessThanOrEqual(6);
  }, 90_000);

  it('[SRV-16] a script that keeps the server for 3 seconds runs once', async () => {
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
    const counts = await countCommands(redis.client, async () => {
      expect(await services.scripts.run(slowRead, { args: { ms: 3_000 } }, PATIENT)).toBe(1);
    });
    expect((counts['evalsha_ro'] ?? 0) + (counts['eval_ro'] ?? 0)).toBeLessThanOrEqual(2);
    expect(counts['eval_ro']).toBe(1);
  }, 30_000);

  it('[SRV-16] calls to a Redis that is stopped for 7 seconds are not sent again', async () => {
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:', ...PATIENT });
    await services.counters.add('n', 1);
    const counts = await countCommands(redis.client, async () => {
      redis.server.pause();
      const calls = Promise.all([services.counters.add('n', 1), services.values.getAndSet('v', '1')]);
      await new Promise((resolve) => setTimeout(resolve, 7_000));
      redis.server.resume();
      expect((await calls)[0].value).toBe(2);
    }).finally(() => redis.server.resume());
    expect(counts['evalsha']).toBe(2);
  }, 60_000);

  it('[SRV-16] writes that the server holds back, as before a failover, are not sent again', async () => {
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:', ...PATIENT });
    await services.counters.add('n', 1);
    await redis.client.client('PAUSE', 2_500, 'WRITE');
    const held: number[] = [];
    const began = performance.now();
    const match = ({ name }: { name: string }): boolean => {
      if (name.startsWith('EVAL')) held.push(Math.round(performance.now() - began));
      return false;
    };
    proxy.delay({ match, times: Infinity });
    expect((await services.counters.add('n', 1)).value).toBe(2);
    expect(held).toHaveLength(1);
  }, 30_000);

  it('[SRV-16] an answer that comes together with the role of the server is progress', async () => {
    const { redis: services } = await boot({ namespace: 'atomic:', connection: proxy.url, ...PATIENT });
    let stopped = (): void => undefined;
    const isStopped = new Promise<void>((resolve) => (stopped = resolve));
    proxy.delay({
      match: ({ name, args }) => {
        if (name !== 'INFO' || String(args[0]) !== 'replication') return false;
        redis.server.pause();
        stopped();
        return true;
      },
    });
    while (
      !(await Promise.race([isStopped.then(() => true), services.counters.add('n', 1).then(() => false)]))
    );
    const late = services.counters.add('late', 1);
    await new Promise(setImmediate);
    // Answered behind what comes with the role, after less than the silence that makes a connection
    // suspicious.
    proxy.delay({ match: ({ name }) => name === 'EVAL_RO', replyMs: 200 });
    const slow = services.scripts.run(slowRead, { args: { ms: 0 } }, PATIENT);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    redis.server.resume();
    expect((await late).value).toBe(1);
    // Nothing is asked on another connection.
    const before = proxy.connections;
    expect(await slow).toBe(1);
    expect(proxy.connections).toBe(before);
  }, 30_000);

  it.each([
    ['a counter', (services: Services) => services.counters.add('n', 1)],
    ['an idempotent run', (services: Services) => services.idempotency.run('k', () => Promise.resolve(1))],
    [
      'a transaction',
      (services: Services) => services.transactions.run(['t'], (tx) => void tx.write.set('t', 1)),
    ],
    ['a read', (services: Services) => services.counters.get('n')],
  ])(
    '[SRV-17] the first call after a load balancer has forgotten all connections succeeds: %s',
    async (_, call) => {
      const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:' });
      await services.transactions.run(['t'], (tx) => void tx.write.set('t', 0));
      for (let i = 0; i < 3; i++) {
        proxy.blackHoleNow();
        expect(await call(services).then(() => 'done')).toBe('done');
        // Drops that follow each other at once would make it more patient.
        await new Promise((resolve) => setTimeout(resolve, 1_500));
      }
    },
  );

  it('[SRV-17] a connection that is really dead is found within seconds, and all that waits on it goes on', async () => {
    const { redis: services } = await boot({ connection: proxy.url, namespace: 'atomic:', ...PATIENT });
    await services.counters.add('n', 1);
    const zombie = proxy.blackHole({ ...isScript, deliver: true });
    const began = performance.now();
    const values = await Promise.all([1, 2, 3].map(() => services.counters.add('n', 1)));
    expect(values.map(({ value }) => value).toSorted((a, b) => a - b)).toEqual([2, 3, 4]);
    expect(zombie.count).toBe(1);
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  it('[SRV-17] a server that is gone without a word is found although nothing answers', async () => {
    const { redis: services } = await boot({
      connection: proxy.url,
      namespace: 'atomic:',
      timeoutMs: 20_000,
    });
    await services.counters.add('n', 1);
    const call = services.counters.add('n', 1);
    proxy.blackHoleNow();
    proxy.refuseConnections(true);
    await waitFor('the loss', async () =>
      (await services.status({ timeoutMs: 50 })).error?.message.includes('reached'),
    );
    proxy.refuseConnections(false);
    expect((await call).value).toBe(2);
  }, 30_000);

  it('[SRV-17] a call that is slow behind a proxy is not sent again at the same pace for ever', async () => {
    const { redis: services } = await boot({
      connection: proxy.url,
      namespace: 'atomic:',
      timeoutMs: 20_000,
    });
    await services.counters.add('n', 1);
    // Every other connection is answered at once.
    let sent = 0;
    proxy.delay({ match: ({ name }) => name === 'EVALSHA' && ++sent > 0, times: Infinity, requestMs: 3_000 });
    expect((await services.counters.add('n', 1)).value).toBe(2);
    expect(sent).toBeLessThanOrEqual(5);
  }, 30_000);

  it('[SRV-17] blocking commands are given the time for which they block', async () => {
    const { redis: services } = await boot({
      connection: proxy.url,
      namespace: 'atomic:',
      timeoutMs: 20_000,
    });
    await services.lists.move('{l}a', '{l}b');
    const before = proxy.connections;
    const moved = services.lists.move('{l}a', '{l}b', { waitMs: 5_000 });
    await new Promise((resolve) => setTimeout(resolve, 3_500));
    await redis.client.rpush('{l}a', 'x');
    expect(await moved).toBe('x');
    expect(proxy.connections - before).toBe(1);
  }, 20_000);
});

type Services = Awaited<ReturnType<ReturnType<typeof useBoot>['boot']>>['redis'];

describe('ioredis by itself', () => {
  const redis = useRedis();

  it('needs some 3 seconds for 6 MB over the same line', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    proxy.limitSpeed(BYTES_PER_SECOND);
    const client = new Redis(proxy.url);
    const began = performance.now();
    await client.set('p', LARGE);
    expect(performance.now() - began).toBeGreaterThan(2_000);
    client.disconnect();
    await proxy.stop();
  }, 60_000);
});
