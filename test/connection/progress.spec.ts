import { Redis } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';
import { AtomicRedis, defineScript, type AtomicRedisOptions } from '../../lib/index.js';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisServer,
} from '../../lib/testing/index.js';
import { startApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { isScript } from '../support/is-script.js';
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

interface Line {
  readonly server: RedisServer;
  /** Goes past the proxy. */
  readonly client: Redis;
  readonly proxy: FaultProxy;
  readonly services: AtomicRedis;
}

/**
 * Gives a test a server, a proxy in front of it and an application of its own. Tests here mostly
 * wait, so they run at the same time.
 */
const onLine =
  <Args extends unknown[]>(
    options: Partial<AtomicRedisOptions>,
    test: (line: Line, ...args: Args) => Promise<void>,
  ) =>
  async (...args: Args): Promise<void> => {
    const server = await startRedisServer({ binary: process.env.TEST_REDIS_BINARY });
    const client = new Redis(server.url);
    const proxy = await startFaultProxy({ target: server });
    const app = await startApp({ connection: proxy.url, ...options });
    try {
      await test({ server, client, proxy, services: app.get(AtomicRedis) }, ...args);
    } finally {
      server.resume();
      proxy.reset();
      await app.close();
      await proxy.stop();
      client.disconnect();
      await server.stop();
    }
  };

describe('a connection counts as alive while bytes move', () => {
  it.concurrent(
    '[SRV-16] a request and a reply of 6 MB over a line of 2 MB/s are sent once',
    onLine(PATIENT, async ({ client, proxy, services }) => {
      await services.values.getAndSet('v', 'first');
      proxy.limitSpeed(BYTES_PER_SECOND);
      const before = proxy.connections;
      const counts = await countCommands(client, async () => {
        expect(await services.values.getAndSet('v', LARGE, PATIENT)).toBe('first');
        expect(await services.values.getAndSet('v', 'last', PATIENT)).toBe(LARGE);
      });
      expect(counts).toMatchObject({ evalsha: 2 });
      expect(proxy.connections).toBe(before);
    }),
  );

  it.concurrent(
    '[SRV-16] a request over a slower line gets twice the time at each attempt',
    onLine({ timeoutMs: 80_000 }, async ({ proxy, services }) => {
      await services.values.getAndSet('v', 'first');
      proxy.limitSpeed(130_000);
      // It takes four seconds, and has one at first: without more time each time, no attempt would
      // ever end.
      expect(await services.values.getAndSet('v', 'x'.repeat(500_000), { timeoutMs: 80_000 })).toBe('first');
    }),
  );

  it.concurrent(
    '[SRV-16] a script that keeps the server busy for 3 seconds runs once',
    onLine(PATIENT, async ({ client, services }) => {
      const counts = await countCommands(client, async () => {
        expect(await services.scripts.run(slowRead, { args: { ms: 3_000 } }, PATIENT)).toBe(1);
      });
      expect((counts['evalsha_ro'] ?? 0) + (counts['eval_ro'] ?? 0)).toBeLessThanOrEqual(2);
      expect(counts['eval_ro']).toBe(1);
    }),
  );

  it.concurrent(
    '[SRV-16] calls to a Redis that is stopped for 7 seconds are not sent again',
    onLine(PATIENT, async ({ server, client, services }) => {
      await services.counters.add('n', 1);
      const counts = await countCommands(client, async () => {
        server.pause();
        const calls = Promise.all([services.counters.add('n', 1), services.values.getAndSet('v', '1')]);
        await sleep(7_000);
        server.resume();
        expect((await calls)[0].value).toBe(2);
      });
      expect(counts['evalsha']).toBe(2);
    }),
  );

  it.concurrent(
    '[SRV-16] writes that the server holds back, as before a failover, are not sent again',
    onLine(PATIENT, async ({ client, proxy, services }) => {
      await services.counters.add('n', 1);
      await client.client('PAUSE', 2_500, 'WRITE');
      let held = 0;
      const match = ({ name }: { name: string }): boolean => {
        if (name.startsWith('EVAL')) held++;
        return false;
      };
      proxy.delay({ match, times: Infinity });
      expect((await services.counters.add('n', 1)).value).toBe(2);
      expect(held).toBe(1);
    }),
  );

  it.concurrent(
    '[SRV-16] a reply that arrives together with the role of the server counts as progress',
    onLine(PATIENT, async ({ server, proxy, services }) => {
      let stopped = (): void => undefined;
      const isStopped = new Promise<void>((resolve) => (stopped = resolve));
      proxy.delay({
        match: ({ name, args }) => {
          if (name !== 'INFO' || String(args[0]) !== 'replication') return false;
          server.pause();
          stopped();
          return true;
        },
      });
      while (
        !(await Promise.race([isStopped.then(() => true), services.counters.add('n', 1).then(() => false)]))
      );
      const late = services.counters.add('late', 1);
      await new Promise(setImmediate);
      // Answered behind what comes with the role, after less than the silence that makes a
      // connection suspicious.
      proxy.delay({ match: ({ name }) => name === 'EVAL_RO', replyMs: 200 });
      const slow = services.scripts.run(slowRead, { args: { ms: 0 } }, PATIENT);
      await sleep(1_000);
      server.resume();
      expect((await late).value).toBe(1);
      // Nothing is asked on another connection.
      const before = proxy.connections;
      expect(await slow).toBe(1);
      expect(proxy.connections).toBe(before);
    }),
  );

  it.concurrent.each([
    ['a counter', (services: AtomicRedis) => services.counters.add('n', 1)],
    ['an idempotent run', (services: AtomicRedis) => services.idempotency.run('k', () => Promise.resolve(1))],
    [
      'a transaction',
      (services: AtomicRedis) => services.transactions.run(['t'], (tx) => void tx.write.set('t', 1)),
    ],
    ['a read', (services: AtomicRedis) => services.counters.get('n')],
  ] as const)(
    '[SRV-17] the first call after a load balancer dropped all idle connections succeeds: %s',
    // Within the time-outs by default on a machine that does not stall.
    onLine(
      { ...PATIENT, idempotency: PATIENT },
      async ({ proxy, services }, _: string, call: (services: AtomicRedis) => Promise<unknown>) => {
        await services.transactions.run(['t'], (tx) => void tx.write.set('t', 0));
        for (let i = 0; i < 3; i++) {
          proxy.blackHoleNow();
          expect(await call(services).then(() => 'done')).toBe('done');
        }
      },
    ),
  );

  it.concurrent(
    '[SRV-17] a dead connection is detected within seconds, and all its waiting calls continue',
    onLine(PATIENT, async ({ proxy, services }) => {
      await services.counters.add('n', 1);
      const zombie = proxy.blackHole({ ...isScript, deliver: true });
      const began = performance.now();
      const values = await Promise.all([1, 2, 3].map(() => services.counters.add('n', 1)));
      expect(values.map(({ value }) => value).toSorted((a, b) => a - b)).toEqual([2, 3, 4]);
      expect(zombie.count).toBe(1);
      expect(performance.now() - began).toBeLessThan(10_000);
    }),
  );

  it.concurrent(
    '[SRV-17] a server that disappeared silently is detected although nothing answers',
    onLine(PATIENT, async ({ proxy, services }) => {
      await services.counters.add('n', 1);
      const call = services.counters.add('n', 1);
      proxy.blackHoleNow();
      proxy.refuseConnections(true);
      await waitFor('the loss', async () =>
        (await services.status({ timeoutMs: 50 })).error?.message.includes('reached'),
      );
      proxy.refuseConnections(false);
      expect((await call).value).toBe(2);
    }),
  );

  it.concurrent(
    '[SRV-17] a call behind a slow proxy is sent again at growing intervals',
    onLine(PATIENT, async ({ proxy, services }) => {
      await services.counters.add('n', 1);
      // Every other connection is answered at once.
      let sent = 0;
      proxy.delay({
        match: ({ name }) => name === 'EVALSHA' && ++sent > 0,
        times: Infinity,
        requestMs: 3_000,
      });
      expect((await services.counters.add('n', 1)).value).toBe(2);
      expect(sent).toBeLessThanOrEqual(5);
    }),
  );

  it.concurrent(
    '[SRV-17] blocking commands get the time for which they block',
    onLine(PATIENT, async ({ client, proxy, services }) => {
      await services.lists.move('{l}a', '{l}b');
      const before = proxy.connections;
      const moved = services.lists.move('{l}a', '{l}b', { waitMs: 20_000 });
      await sleep(3_500);
      await client.rpush('{l}a', 'x');
      expect(await moved).toBe('x');
      expect(proxy.connections - before).toBe(1);
    }),
  );
});

it.concurrent(
  'ioredis by itself needs about 3 seconds for 6 MB over the same line',
  onLine({}, async ({ proxy }) => {
    proxy.limitSpeed(BYTES_PER_SECOND);
    const client = new Redis(proxy.url);
    const began = performance.now();
    await client.set('p', LARGE);
    expect(performance.now() - began).toBeGreaterThan(2_000);
    client.disconnect();
  }),
);
