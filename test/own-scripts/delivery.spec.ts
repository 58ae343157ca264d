import type { TestingModule } from '@nestjs/testing';
import { Redis } from 'ioredis';
import {
  CrossSlotError,
  defineScript,
  OutcomeUnknownError,
  RedisReplyError,
  RedisUnavailableError,
  ScriptService,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { useApp } from '../support/app.js';
import { startClusterBehindProxies } from '../support/cluster-behind-proxies.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { readScript as read } from './counter-scripts.js';

const add = defineScript({
  name: 'test.add',
  keys: ['counter'],
  args: ['by'],
  lua: `return { redis.call('INCRBY', KEYS[1], ARGV[1]), 'bytes \\0 and text' }`,
  reply: (raw) => raw as [number, string],
});

const failAfterWriting = defineScript({
  name: 'test.failAfterWriting',
  keys: ['counter'],
  args: [],
  lua: `redis.call('INCR', KEYS[1])\nerror({ err = 'NOSCRIPT is no reason to run it again' })`,
  reply: Number,
});

const addTo = (counter: string) => ({ keys: { counter }, args: { by: 1 } });

describe('own scripts over connections that fail', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let scripts: ScriptService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url });
    scripts = app.get(ScriptService);
    // Loads the script, so that no fault strikes the call that finds it unknown.
    await scripts.run(add, addTo('warm-up'));
    await scripts.run(failAfterWriting, { keys: { counter: 'warm-up' } }).catch(() => undefined);
    await redis.client.flushall();
  });

  afterEach(() => proxy.stop());

  it('[OS-7] run once when the reply is lost, and the caller gets that run’s reply', async () => {
    const lost = proxy.loseReplies(isScript);
    proxy.refuseConnections(true);
    const adding = scripts.run(add, addTo('n'), { timeoutMs: 20_000 });
    await waitFor('it ran', async () => (await redis.client.get('n')) === '1');
    await redis.client.set('n', 50);
    proxy.refuseConnections(false);
    expect(await adding).toEqual([1, 'bytes \0 and text']);
    expect(lost.count).toBe(1);
    expect(await redis.client.get('n')).toBe('50');
  });

  it('[OS-7] run once when the connection is cut before the server saw the call, or within its reply', async () => {
    proxy.cutBeforeServer(isScript);
    expect((await scripts.run(add, addTo('n')))[0]).toBe(1);
    proxy.deliverPartOfReply(5, isScript);
    expect((await scripts.run(add, addTo('n')))[0]).toBe(2);
    expect(await redis.client.get('n')).toBe('2');
  });

  it('[OS-7] that fail after a write fail once: a copy gets the same failure', async () => {
    const lost = proxy.loseReplies(isScript);
    const error: unknown = await scripts
      .run(failAfterWriting, { keys: { counter: 'n' } })
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(RedisReplyError);
    expect(error).toMatchObject({ reply: 'NOSCRIPT', outcome: 'unknown', retryable: false });
    expect(lost.count).toBe(1);
    expect(await redis.client.get('n')).toBe('1');
  });

  it('[OS-7] do nothing when a copy arrives after the answer', async () => {
    const late = proxy.deliverLate(300, isScript);
    expect((await scripts.run(add, addTo('n')))[0]).toBe(1);
    expect(await late.delivered).toBe(true);
    expect(await redis.client.get('n')).toBe('1');
  });

  it('[OS-7] do nothing when they arrive after their time-out, with a marker and without', async () => {
    for (const marker of [true, false]) {
      const late = proxy.deliverLate(800, isScript);
      void late.triggered.then(() => proxy.refuseConnections(true));
      await expect(scripts.run(add, addTo('n'), { timeoutMs: 300, deduplicate: marker })).rejects.toThrow(
        OutcomeUnknownError,
      );
      expect(await late.delivered).toBe(true);
      expect(await redis.client.get('n')).toBeNull();
      proxy.refuseConnections(false);
      await waitFor('the connection is back', () => app.get(RedisConnection).isReady);
    }
  });

  it('[OS-7] are not sent again without a marker, and a lost reply is unknown at once', async () => {
    proxy.loseReplies(isScript);
    await expect(scripts.run(add, addTo('n'), { deduplicate: false })).rejects.toMatchObject({
      constructor: OutcomeUnknownError,
      outcome: 'unknown',
    });
    expect(await redis.client.get('n')).toBe('1');
  });

  it('[OS-4] that are read-only are sent again, and their outcome is never unknown', async () => {
    await redis.client.set('n', 7);
    const lost = proxy.loseReplies(isScript);
    expect(await scripts.run(read, { keys: { counter: 'n' } })).toBe(7);
    expect(lost.count).toBe(1);
    proxy.blackHole({ ...isScript, times: Infinity });
    await expect(scripts.run(read, { keys: { counter: 'n' } }, { timeoutMs: 300 })).rejects.toMatchObject({
      constructor: RedisUnavailableError,
      outcome: 'not-applied',
      retryable: true,
    });
  });

  it('[OS-7] wait while another client’s script keeps Redis busy, then run once', async () => {
    const other = new Redis(redis.server.url);
    const watch = new Redis(redis.server.url, { retryStrategy: null });
    // Connected before: a busy Redis answers no ready check.
    await Promise.all([other.ping(), watch.ping()]);
    await redis.client.config('SET', 'busy-reply-threshold', 50);
    try {
      const busy = other.eval('while true do end', 0).catch((e: unknown) => e);
      await waitFor('Redis is busy', () =>
        watch.get('x').then(
          () => false,
          (e: Error) => e.message.startsWith('BUSY'),
        ),
      );
      const seen = proxy.commandsSeen;
      const adding = scripts.run(add, addTo('n'), { timeoutMs: 20_000 });
      await waitFor('it was refused and sent again', () => proxy.commandsSeen > seen + 1);
      await watch.script('KILL');
      await busy;
      expect((await adding)[0]).toBe(1);
      expect(await redis.client.get('n')).toBe('1');
    } finally {
      await watch.script('KILL').catch(() => undefined);
      other.disconnect();
      watch.disconnect();
      await redis.client.config('SET', 'busy-reply-threshold', 5_000);
    }
  });
});

describe('own scripts on a Cluster', () => {
  const boot = useApp();

  it('[OS-8] run once in any slot, and keys of several slots are refused before any command', async () => {
    const behind = await startClusterBehindProxies();
    const { cluster, proxies } = behind;
    const app = await boot({ connection: behind.connection, timeoutMs: 10_000 });
    const client = cluster.connect();
    try {
      const scripts = app.get(ScriptService);
      for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) {
        expect((await scripts.run(add, addTo(key)))[0]).toBe(1);
        for (const proxy of proxies) proxy.loseReplies(isScript);
        expect((await scripts.run(add, addTo(key)))[0]).toBe(2);
        for (const proxy of proxies) proxy.reset();
        expect(await scripts.run(read, { keys: { counter: key } })).toBe(2);
        expect(await client.get(key)).toBe('2');
      }

      const none = defineScript({
        name: 'test.none',
        keys: [],
        args: [],
        lua: `return 'no key'`,
        reply: String,
      });
      expect(await scripts.run(none, {})).toBe('no key');
      expect(await scripts.run(defineScript({ ...none, readOnly: true }), {})).toBe('no key');

      const pair = defineScript({
        name: 'test.pair',
        keys: ['...both'],
        args: [],
        lua: 'return 1',
        reply: Number,
      });
      for (const script of [pair, defineScript({ ...pair, readOnly: true })]) {
        const seen = proxies.map(({ commandsSeen }) => commandsSeen);
        await expect(scripts.run(script, { keys: { both: ['a', 'b'] } })).rejects.toMatchObject({
          constructor: CrossSlotError,
          keys: ['a', 'b'],
        });
        expect(proxies.map(({ commandsSeen }) => commandsSeen)).toEqual(seen);
      }
      expect(await scripts.run(pair, { keys: { both: ['{x}a', '{x}b'] } })).toBe(1);
    } finally {
      client.disconnect();
      await app.close();
      await behind.stop();
    }
  });
});
