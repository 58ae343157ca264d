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

const append = defineScript({
  name: 'test.append',
  keys: ['list'],
  args: ['value'],
  lua: `return redis.call('RPUSH', KEYS[1], ARGV[1])`,
  reply: Number,
});

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

describe('calls of one script that are made together', () => {
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
  const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

  it('[SC-6] share an EVALSHA, sixteen at most, and have each its own answer', async () => {
    let lengths: number[] = [];
    const counts = await countCommands(redis.client, async () => {
      lengths = await Promise.all(range(40).map((n) => push(String(n))));
    });
    expect(counts.evalsha).toBe(3);
    expect(lengths).toEqual(range(40).map((n) => n + 1));
    expect(await redis.client.lrange('l', 0, -1)).toEqual(range(40).map(String));
  });

  it('[SC-6] come to what they come to alone: nothing, a list, an error of their own', async () => {
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

  it('[SC-6] are made though one before them could not be written, as where instrumentation of the client throws', async () => {
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

  it('[SC-6] leave in the order they were made in, whatever else is called between them', async () => {
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

  it('[SC-6] are made after SCRIPT FLUSH', async () => {
    await redis.client.script('FLUSH');
    expect(await Promise.all(range(5).map(() => push('x')))).toEqual([1, 2, 3, 4, 5]);
    const counts = await countCommands(redis.client, () => Promise.all(range(5).map(() => push('x'))));
    expect(counts).toMatchObject({ evalsha: 1 });
    expect(counts.eval).toBeUndefined();
  });

  it('[SC-6] have each the effect of once when the reply to all of them is lost', async () => {
    const fault = proxy.loseReplies({ match: ({ name }) => name === 'EVALSHA' });
    const values = await Promise.all(range(10).map((n) => incrementOnce(n)));
    expect(fault.count).toBe(1);
    expect(values.toSorted((a, b) => a - b)).toEqual(range(10).map((n) => n + 1));
    expect(await redis.client.get('n')).toBe('10');
  });

  it('[SC-6] give up each at its own deadline', async () => {
    proxy.blackHoleNow();
    const settled = await Promise.allSettled([
      incrementOnce(1, 100),
      incrementOnce(2, 100),
      incrementOnce(3, 300),
    ]);
    for (const one of settled)
      expect((one as PromiseRejectedResult).reason).toBeInstanceOf(OutcomeUnknownError);
  });

  it('[SC-6] that bring much leave alone', async () => {
    const counts = await countCommands(redis.client, () =>
      Promise.all(range(4).map(() => push('x'.repeat(100_000)))),
    );
    expect(counts.evalsha).toBe(4);
  });

  it('[SC-6] every script of the library that can be shared compiles as a shared one', async () => {
    const shared = LIBRARY_SCRIPTS.map(([, script]) => scriptBatchOf(script)).filter(
      (batch) => batch !== undefined,
    );
    expect(shared.length).toBeGreaterThan(20);
    for (const { lua } of shared) await redis.client.script('LOAD', lua);
  });
});
