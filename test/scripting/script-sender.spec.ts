import type { Redis } from 'ioredis';
import { OutcomeUnknownError, RedisReplyError } from '../../lib/atomic-redis.errors.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { luaNow } from '../../lib/scripting/lua.js';
import type { RedisConnection } from '../../lib/connection/redis-connection.js';
import { scriptBatchOf } from '../../lib/scripting/script-batch.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { defineScript } from '../../lib/scripting/script.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { countCommands } from '../support/command-stats.js';
import { LIBRARY_SCRIPTS } from '../support/library-scripts.js';
import { connectionTo } from '../support/library-connection.js';
import { useRedis } from '../support/redis.js';
import { append } from './scripted-operations.js';

const length = defineScript({
  name: 'test.length',
  keys: ['list'],
  args: ['unused'],
  lua: `return redis.call('LLEN', KEYS[1])`,
  reply: Number,
});

/** Answers in whatever way its argument says. */
const answer = defineScript({
  name: 'test.answer',
  keys: ['key'],
  args: ['how'],
  lua: `
local how = ARGV[1]
if how == 'nil' then return nil end
if how == 'false' then return false end
if how == 'list' then return { 'a', { 'b' }, 3 } end
if how == 'error reply' then return redis.error_reply('REFUSED by the script') end
if how == 'wrong type' then redis.call('SET', KEYS[1], 'text') return redis.call('LLEN', KEYS[1]) end
if how == 'raised' then error('on purpose') end
return how`,
  reply: (raw) => raw,
});

/** Once, by its token, and not after its time limit. */
const once = defineScript({
  name: 'test.once',
  keys: ['marker', 'counter'],
  args: ['notAfterMs'],
  lua: `${luaNow}
local known = redis.call('GET', KEYS[1])
if known then return known end
if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
local value = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], value)
return value`,
  reply: Number,
});

describe('concurrent calls of one script', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let connection: RedisConnection;
  let scripts: ScriptRunner;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    connection = connectionTo(proxy.url);
    connection.preload([append, length, answer, once]);
    scripts = new ScriptRunner(connection);
    await connection.ready(Deadline.in(2_000));
    await scripts.run(append, { list: 'warm-up' }, { value: '' }, Deadline.in(2_000));
  });

  afterEach(async () => {
    await connection.close();
    await proxy.stop();
  });

  const push = (value: string): Promise<number> =>
    scripts.run(append, { list: 'l' }, { value }, Deadline.in(2_000));
  const ask = (how: string): Promise<unknown> =>
    scripts.run(answer, { key: `k:${how}` }, { how }, Deadline.in(2_000)).catch((error: unknown) => error);
  const incrementOnce = (n: number, ms = 2_000): Promise<number> =>
    scripts.run(once, { marker: `m:${n}`, counter: 'n' }, {}, Deadline.in(ms));
  const bytesSent = (): number => (connection.client as Redis).stream.bytesWritten;
  const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

  it('[SC-6] share an EVALSHA, sixteen at most, and each has its own reply', async () => {
    let lengths: number[] = [];
    const counts = await countCommands(redis.client, async () => {
      lengths = await Promise.all(range(40).map((n) => push(String(n))));
    });
    expect(counts.evalsha).toBe(3);
    expect(lengths).toEqual(range(40).map((n) => n + 1));
    expect(await redis.client.lrange('l', 0, -1)).toEqual(range(40).map(String));
  });

  it('[SC-6] give the same results as single calls: nothing, a list, an error of their own', async () => {
    const ways = ['nil', 'false', 'list', 'error reply', 'text', 'wrong type', 'raised'];
    const alone: unknown[] = [];
    for (const how of ways) alone.push(await ask(how));
    const together = await Promise.all(ways.map(ask));
    expect(together.slice(0, 3)).toEqual([null, null, ['a', ['b'], 3]]);
    expect(together[4]).toBe('text');
    for (const [i, result] of together.entries()) {
      if (!(alone[i] instanceof Error)) expect(result).toEqual(alone[i]);
      else {
        const { code, outcome } = alone[i] as RedisReplyError;
        expect(result).toBeInstanceOf(RedisReplyError);
        expect(result).toMatchObject({ code, outcome });
      }
    }
    expect((together[5] as Error).message).toContain('WRONGTYPE');
    expect((together[6] as Error).message).toContain('on purpose');
  });

  it('[SC-6] run even if one before them could not be written, for example when client instrumentation throws', async () => {
    const { client } = connection;
    const send = client.sendCommand.bind(client);
    const failOnce = ((...args: Parameters<typeof client.sendCommand>) => {
      Object.assign(client, { sendCommand: send });
      throw new TypeError(`on purpose, not ${args[0].name}`);
    }) as typeof client.sendCommand;
    Object.assign(client, { sendCommand: failOnce });
    const first = scripts.run(append, { list: 'l' }, { value: 'a' }, Deadline.in(1_000), { resend: false });
    const others = [ask('text'), push('b')];
    await expect(first).rejects.toMatchObject({
      outcome: 'unknown',
      cause: expect.any(TypeError) as unknown,
    });
    expect(await Promise.all(others)).toEqual(['text', 1]);
    expect(await push('c')).toBe(2);
  });

  it('[SC-6] leave in the order in which they were made, whatever else is called between them', async () => {
    const lengths = await Promise.all([
      push('a'),
      push('b'),
      scripts.run(length, { list: 'l' }, { unused: '' }, Deadline.in(2_000)),
      push('c'),
      scripts.run(length, { list: 'l' }, { unused: '' }, Deadline.in(2_000)),
      push('d'),
    ]);
    expect(lengths).toEqual([1, 2, 2, 3, 3, 4]);
  });

  it('[SC-6] run after SCRIPT FLUSH', async () => {
    await redis.client.script('FLUSH');
    expect(await Promise.all(range(5).map(() => push('x')))).toEqual([1, 2, 3, 4, 5]);
    const counts = await countCommands(redis.client, () => Promise.all(range(5).map(() => push('x'))));
    expect(counts).toMatchObject({ evalsha: 1 });
    expect(counts.eval).toBeUndefined();
  });

  it('[SC-6] are written after the current turn; a batch is written at once', async () => {
    const progress = { mayBeDone: false, refusal: undefined };
    const before = bytesSent();
    const pushed = [push('a'), push('b')];
    expect(bytesSent()).toBe(before);
    await Promise.all(pushed);
    const sent = bytesSent();
    const batch = scripts.run(append, { list: 'l' }, { value: 'c' }, Deadline.in(2_000), { progress });
    expect(bytesSent()).toBeGreaterThan(sent);
    expect(await batch).toBe(3);
  });

  it.each([
    ['calls made together', () => Promise.all([push('0'), push('0')])],
    ['a single call', () => push('0')],
  ])('[SC-6] keep their order after SCRIPT FLUSH and %s', async (_, call) => {
    await redis.client.script('FLUSH');
    await call();
    await redis.client.del('l');
    const values = ['1', '2', 'x'.repeat(5_000), ...range(17).map(String)];
    await Promise.all(values.map(push));
    expect(await redis.client.lrange('l', 0, -1)).toEqual(values);
  });

  it.each([[1], [3]])(
    '[SC-3] do not run where the server reports after their deadline that it lost their script: %d of them',
    async (count) => {
      await redis.client.script('FLUSH');
      const held = proxy.delay({ match: ({ name }) => name === 'EVALSHA', replyMs: 600 });
      const values = range(count).map((n) =>
        scripts.run(append, { list: 'l' }, { value: String(n) }, Deadline.in(300)),
      );
      for (const value of await Promise.allSettled(values))
        expect(value).toMatchObject({ status: 'rejected', reason: { outcome: 'unknown' } });
      await held.triggered;
      expect(await push('later')).toBe(1);
      expect(await redis.client.lrange('l', 0, -1)).toEqual(['later']);
    },
  );

  it('[SC-6] each take effect once when the reply to all of them is lost', async () => {
    const fault = proxy.loseReplies({ match: ({ name }) => name === 'EVALSHA' });
    const values = await Promise.all(range(10).map((n) => incrementOnce(n)));
    expect(fault.count).toBe(1);
    expect(values.toSorted((a, b) => a - b)).toEqual(range(10).map((n) => n + 1));
    expect(await redis.client.get('n')).toBe('10');
  });

  it('[SC-6] each give up at their own deadline', async () => {
    proxy.blackHoleNow();
    const settled = await Promise.allSettled([
      incrementOnce(1, 100),
      incrementOnce(2, 100),
      incrementOnce(3, 300),
    ]);
    for (const one of settled)
      expect((one as PromiseRejectedResult).reason).toBeInstanceOf(OutcomeUnknownError);
  });

  it('[SC-6] with large arguments leave alone', async () => {
    const counts = await countCommands(redis.client, () =>
      Promise.all(range(4).map(() => push('x'.repeat(100_000)))),
    );
    expect(counts.evalsha).toBe(4);
  });

  it('[SC-6] include every shareable script of the library, which compiles in its shared form', async () => {
    const shared = LIBRARY_SCRIPTS.map(([, script]) => scriptBatchOf(script)).filter(
      (batch) => batch !== undefined,
    );
    expect(shared.length).toBeGreaterThan(20);
    for (const { lua } of shared) await redis.client.script('LOAD', lua);
  });
});
