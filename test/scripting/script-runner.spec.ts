import {
  ConfigurationError,
  InvalidArgumentError,
  OutcomeUnknownError,
  RedisReplyError,
  RedisUnavailableError,
} from '../../lib/atomic-redis.errors.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { luaNow } from '../../lib/scripting/lua.js';
import type { RedisConnection } from '../../lib/connection/redis-connection.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { defineScript } from '../../lib/scripting/script.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { countCommands } from '../support/command-stats.js';
import { connectionTo } from '../support/library-connection.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const number = (raw: unknown): number => Number(raw);

/** Not safe to send again, so that every run of it shows. */
const count = defineScript({
  name: 'test.count',
  keys: ['counter'],
  args: ['by'],
  lua: `return redis.call('INCRBY', KEYS[1], ARGV[1])`,
  reply: number,
});

const countInTime = defineScript({
  name: 'test.countInTime',
  keys: ['counter'],
  args: ['notAfterMs'],
  lua: `${luaNow} if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end return redis.call('INCR', KEYS[1])`,
  reply: number,
});

const echo = defineScript({
  name: 'test.echo',
  keys: ['...keys'],
  args: ['first', '...rest'],
  binary: true,
  lua: `return { KEYS[1], ARGV[1], ARGV[#ARGV] }`,
  reply: (raw) => raw as Buffer[],
});

const failAfterWriting = defineScript({
  name: 'test.failAfterWriting',
  keys: ['counter'],
  args: [],
  lua: `redis.call('INCR', KEYS[1]) return redis.error_reply('ERR something about NOSCRIPT here')`,
  reply: number,
});

describe('ScriptRunner', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let connection: RedisConnection;
  let scripts: ScriptRunner;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    connection = connectionTo(proxy.url);
    connection.preload([count, countInTime, echo, failAfterWriting]);
    scripts = new ScriptRunner(connection);
    await connection.ready(Deadline.in(2_000));
    await connection.verifyServers(Deadline.in(2_000));
    // Behind the SCRIPT LOADs that went out on connect.
    await scripts.run(count, { counter: 'warm-up' }, { by: 0 }, Deadline.in(2_000));
  });

  afterEach(async () => {
    await connection.close();
    await proxy.stop();
  });

  it('writes the calls of one turn of the event loop at once', async () => {
    const straight = connectionTo(redis.server.url);
    const runner = new ScriptRunner(straight);
    const counted = (): Promise<number> => runner.run(countInTime, { counter: 'c' }, {}, Deadline.in(5_000));
    const reads = async (): Promise<number> =>
      Number(/total_reads_processed:(\d+)/.exec(await redis.client.info('stats'))![1]);
    try {
      await straight.verifyServers(Deadline.in(2_000));
      await counted();
      const before = await reads();
      const values = await Promise.all(Array.from({ length: 50 }, counted));
      // The question itself is one.
      expect((await reads()) - before).toBeLessThan(10);
      expect(values).toEqual(Array.from({ length: 50 }, (_, i) => i + 2));
    } finally {
      await straight.close();
    }
  });

  const run = (by = 1, ms = 2_000) => scripts.run(count, { counter: 'n' }, { by }, Deadline.in(ms));

  it('[SC-1] loads scripts on connect, so that the first call is one EVALSHA', async () => {
    const sha = await redis.client.script('EXISTS', count.sha, echo.sha);
    expect(sha).toEqual([1, 1]);
    expect(await countCommands(redis.client, () => run())).toMatchObject({ evalsha: 1 });
  });

  it('[SC-1] runs once after SCRIPT FLUSH, between any two calls', async () => {
    for (let n = 1; n <= 5; n++) {
      expect(await run()).toBe(n);
      await redis.client.script('FLUSH');
    }
    await Promise.all([run(), redis.client.script('FLUSH'), run(), run()]);
    expect(await redis.client.get('n')).toBe('8');
  });

  it('[SC-1] continues after a restart of the server', async () => {
    await run();
    await redis.server.restart();
    expect(await run(1, 10_000)).toBe(1);
  });

  it('[SC-2] does not run a script again whose own error contains NOSCRIPT', async () => {
    const failing = scripts.run(failAfterWriting, { counter: 'n' }, {}, Deadline.in(2_000));
    await expect(failing).rejects.toThrow(RedisReplyError);
    await expect(failing).rejects.toMatchObject({ reply: 'ERR', outcome: 'unknown' });
    expect(await redis.client.get('n')).toBe('1');
  });

  it('[SC-3] resends a call whose reply was lost', async () => {
    proxy.loseReplies({ match: ({ name }) => name === 'EVALSHA' });
    expect(await run()).toBe(2);
  });

  it('[SC-3] resends a call when the connection was cut before the server saw it', async () => {
    proxy.cutBeforeServer({ match: ({ name }) => name === 'EVALSHA' });
    expect(await run()).toBe(1);
  });

  it('[SC-3] distinguishes a call that was never sent from one that was sent and not answered', async () => {
    proxy.blackHole();
    await expect(run(1, 200)).rejects.toThrow(OutcomeUnknownError);
    proxy.reset();
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    while (connection.isReady) await new Promise((resolve) => setImmediate(resolve));
    const never = run(1, 200);
    await expect(never).rejects.toThrow(RedisUnavailableError);
    await expect(never).rejects.toMatchObject({ outcome: 'not-applied', retryable: true });
  });

  it('[SC-3] reports that Redis is unreachable when the server does not answer TIME', async () => {
    const silent = proxy.blackHole({ match: ({ name }) => name === 'TIME', times: Infinity });
    proxy.disconnectAll();
    await silent.triggered;
    // At any point between two ticks of a timer.
    const deadlines = Array.from({ length: 50 }, (_, i) => Deadline.in(200 + i / 7));
    const failures = deadlines.map((deadline) =>
      scripts.run(countInTime, { counter: 'counter' }, {}, deadline).catch((error: unknown) => error),
    );
    for (const failure of await Promise.all(failures)) expect(failure).toBeInstanceOf(RedisUnavailableError);
    proxy.reset();
  });

  it('[SC-3] has no effect when it arrives past its deadline', async () => {
    const late = proxy.deliverLate(600, { match: ({ name }) => name === 'EVALSHA' });
    proxy.refuseConnections(true);
    await expect(scripts.run(countInTime, { counter: 'n' }, {}, Deadline.in(200))).rejects.toThrow(
      OutcomeUnknownError,
    );
    await late.delivered;
    proxy.refuseConnections(false);
    expect(await scripts.run(countInTime, { counter: 'n' }, {}, Deadline.in(5_000))).toBe(1);
  });

  it('[SC-3] waits for the first copy while its repeats are refused permanently', async () => {
    const evalsha = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' };
    const late = proxy.deliverLate(500, evalsha);
    const refused = proxy.answer('-OOM command not allowed\r\n', { ...evalsha, times: Infinity });
    const unknown = scripts.run(countInTime, { counter: 'n' }, {}, Deadline.in(3_000));
    let wasDelivered = false;
    void late.delivered.then((was) => (wasDelivered = was));
    await expect(unknown).rejects.toThrow(OutcomeUnknownError);
    expect(refused.count).toBeGreaterThan(0);
    expect(wasDelivered).toBe(true);
    await waitFor('its effect', async () => (await redis.client.get('n')) === '1');
  });

  it('passes keys, lists and bytes through unchanged', async () => {
    const bytes = Buffer.from([0, 255, 10, 13]);
    const reply = await scripts.run(
      echo,
      { keys: ['é'] },
      { first: bytes, rest: [2n ** 60n, -3] },
      Deadline.in(2_000),
    );
    expect(reply).toEqual([Buffer.from('é'), bytes, Buffer.from('-3')]);
  });

  it.each([undefined, null, {}, Number.NaN, 1.5, Infinity, [1], true, '\ud800 half of a pair'])(
    '[ARG-1] refuses %p as an argument before any command',
    async (value) => {
      const counts = await countCommands(redis.client, async () => {
        await expect(
          scripts.run(count, { counter: 'n' }, { by: value as never }, Deadline.in(100)),
        ).rejects.toThrow(InvalidArgumentError);
        await expect(
          scripts.run(count, { counter: value as never }, { by: 1 }, Deadline.in(100)),
        ).rejects.toThrow(InvalidArgumentError);
        await expect(
          scripts.run(echo, { keys: ['k', value as never] }, { first: 'a', rest: [] }, Deadline.in(100)),
        ).rejects.toThrow(/test\.echo\.keys\[1\]/);
      });
      expect(counts).toEqual({});
    },
  );

  it('[ARG-1] refuses a list with holes, whose values would shift', async () => {
    const rest = [];
    rest[2] = 'x';
    const refused = scripts.run(echo, { keys: ['k'] }, { first: 'a', rest }, Deadline.in(100));
    await expect(refused).rejects.toThrow(/test\.echo\.rest\[0\] must be .*, received undefined/);
  });
});

describe('defineScript', () => {
  const script = { name: 's', lua: 'return 1', reply: (raw: unknown) => raw };

  it('[ARG-1] refuses repeated names, a list that is not last, and missing text', () => {
    expect(() => defineScript({ ...script, keys: ['a', 'a'], args: [] })).toThrow(ConfigurationError);
    expect(() => defineScript({ ...script, keys: [], args: ['...a', 'b'] })).toThrow(
      /only the last argument may be a list/,
    );
    expect(() => defineScript({ ...script, lua: ' ', keys: [], args: [] })).toThrow(/Lua text/);
  });

  it.each([
    ['name', undefined, /needs a name/],
    ['lua', undefined, /Lua text/],
    ['keys', undefined, /needs keys, a list of names/],
    ['keys', 'stock', /needs keys, a list of names/],
    ['keys', [1], /needs keys, a list of names/],
    ['args', undefined, /needs args, a list of names/],
    ['args', [''], /needs args, a list of names/],
    ['reply', undefined, /needs reply, a function/],
  ])('[ARG-1] refuses a script whose %s is %p', (part, value, message) => {
    const define = (): unknown => defineScript({ ...script, keys: [], args: [], [part]: value });
    expect(define).toThrow(ConfigurationError);
    expect(define).toThrow(message);
  });
});
