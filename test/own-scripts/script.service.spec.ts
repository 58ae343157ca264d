import { AsyncLocalStorage } from 'node:async_hooks';
import type { TestingModule } from '@nestjs/testing';
import {
  ConfigurationError,
  defineScript,
  InvalidArgumentError,
  RedisReplyError,
  ScriptService,
  IllegalTransactionStateError,
  TransactionService,
  UndeclaredKeyError,
  type AtomicRedisOptions,
  type OperationOptions,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { inTransaction } from '../support/in-transaction.js';
import { addScript as add, readScript as read } from './counter-scripts.js';

const identity = (raw: unknown): unknown => raw;

/** A script of no keys that returns what the Lua expression gives. */
const returning = (expression: string, binary = false, readOnly = false) =>
  defineScript({
    name: 'test.returning',
    keys: [],
    args: ['...args'],
    binary,
    readOnly,
    lua: expression,
    reply: identity,
  });

describe.each([true, false])('ScriptService, checkKeys: %p', (checkKeys) => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let scripts: ScriptService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url, scripts: { checkKeys } });
    scripts = app.get(ScriptService);
  });

  const evaluate = (lua: string, binary = false) =>
    scripts.run(returning(lua, binary), { args: { args: [] } });

  it('[OS-1] resolves each call in the async context of its own caller', async () => {
    const surroundings = new AsyncLocalStorage<number>();
    const readIn = defineScript({
      name: 'test.surroundings',
      keys: [],
      args: ['caller'],
      lua: 'return ARGV[1]',
      reply: (caller) => [caller, surroundings.getStore()],
    });
    const callers = [1, 2, 3];
    const answers = await Promise.all(
      callers.map((caller) => surroundings.run(caller, () => scripts.run(readIn, { args: { caller } }))),
    );
    expect(answers).toEqual(callers.map((caller) => [String(caller), caller]));
  });

  it('[OS-1] runs a script with its keys, arguments and reply', async () => {
    expect(await scripts.run(add, { keys: { counter: 'n' }, args: { by: 5 } })).toBe(5);
    expect(await scripts.run(add, { keys: { counter: 'n' }, args: { by: -2n } })).toBe(3);
    expect(await scripts.run(read, { keys: { counter: 'n' } })).toBe(3);
    expect(await scripts.run(read, { keys: { counter: 'none' } })).toBeNull();
  });

  it('[OS-1] takes one round trip, and a read-only script leaves nothing behind', async () => {
    await scripts.run(add, { keys: { counter: 'n' }, args: { by: 5 } });
    await scripts.run(read, { keys: { counter: 'n' } });
    await redis.client.flushall();
    expect(
      await countCommands(redis.client, () => scripts.run(read, { keys: { counter: 'n' } })),
    ).toMatchObject({ evalsha_ro: 1, get: 1 });
    expect(await redis.client.keys('*')).toEqual([]);
    const counts = await countCommands(redis.client, () =>
      scripts.run(add, { keys: { counter: 'n' }, args: { by: 5 } }),
    );
    expect(counts).toMatchObject({ evalsha: 1, incrby: 1 });
    expect(counts).not.toHaveProperty('eval');
    const marker = (await redis.client.keys('atomic:operation:*'))[0]!;
    expect(await redis.client.pttl(marker)).toBeGreaterThan(60_000);
  });

  it('[OS-1] keeps nothing with deduplicate: false', async () => {
    await scripts.run(add, { keys: { counter: 'n' }, args: { by: 5 } }, { deduplicate: false });
    expect(await redis.client.keys('*')).toEqual(['n']);
  });

  it('[OS-2] passes KEYS and ARGV as the user declared them, lists included', async () => {
    const lists = defineScript({
      name: 'test.lists',
      keys: ['one', '...more'],
      args: ['first', '...rest'],
      lua: `return { #KEYS, KEYS[1], KEYS[#KEYS], #ARGV, ARGV[1], ARGV[#ARGV] }`,
      reply: identity,
    });
    const input = { keys: { one: 'k1', more: ['k2', 'k3'] }, args: { first: 'é', rest: [1, 2n, 'x'] } };
    expect(await scripts.run(lists, input)).toEqual([3, 'k1', 'k3', 4, 'é', 'x']);
  });

  it.each([
    ['return 7', 7],
    ['return -7.9', -7],
    ['return 3.99', 3],
    ['return -0.5', 0],
    ['return 2^53', 2 ** 53],
    [`return 'text'`, 'text'],
    [`return ''`, ''],
    [`return 'é'`, 'é'],
    ['return true', 1],
    ['return false', null],
    ['return nil', null],
    ['', null],
    ['local x = 1', null],
    ['return { 1, nil, 3 }', [1]],
    ['return {}', []],
    [`return { 1, 'b', { 'c', {}, false, true } }`, [1, 'b', ['c', [], null, 1]]],
    [`return redis.status_reply('FINE')`, 'FINE'],
    [`return { ok = 'FINE' }`, 'FINE'],
    [`return redis.call('TIME')[1] ~= nil`, 1],
    [`return 'TOO_LATE'`, 'TOO_LATE'],
    [`redis.setresp(3) return true`, 1],
    [`return 'a' -- a comment at the end`, 'a'],
    [`local function f(n) if n == 0 then return 0 end return f(n - 1) end return f(100)`, 0],
    [`return 1, 2`, 1],
    [`return redis.sha1hex('')`, 'da39a3ee5e6b4b0d3255bfef95601890afd80709'],
  ])('[OS-2] converts the reply %j as Redis would', async (lua, reply) => {
    // A text of nothing is refused by defineScript.
    expect(await evaluate(lua || ' local nothing')).toEqual(reply);
    expect(await evaluate(lua || ' local nothing')).toEqual(reply);
  });

  it('[OS-2] converts a reply after redis.setresp(3) as for a connection of version 2', async () => {
    await redis.client.hset('h', 'f', 'v');
    await redis.client.zadd('z', 1.5, 'm');
    const resp3 = defineScript({
      name: 'test.resp3',
      keys: ['hash', 'zset'],
      args: [],
      lua: `redis.setresp(3)
return { redis.call('HGETALL', KEYS[1]), redis.call('ZSCORE', KEYS[2], 'm'), { double = 0.25 }, { set = { a = true } } }`,
      reply: identity,
    });
    expect(await scripts.run(resp3, { keys: { hash: 'h', zset: 'z' } })).toEqual([
      ['f', 'v'],
      '1.5',
      '0.25',
      ['a'],
    ]);
  });

  it('[OS-2] preserves bytes both ways', async () => {
    const bytes = Buffer.from([0, 255, 10, 13, 58, 59]);
    const echo = returning(`return { ARGV[1], #ARGV[1] }`, true);
    expect(await scripts.run(echo, { args: { args: [bytes] } })).toEqual([bytes, 6]);
  });

  it('[OS-2] takes and returns 10,000 items and a large string', async () => {
    const echo = returning(`return ARGV`);
    const items = Array.from({ length: 10_000 }, (_, i) => `item ${i}`);
    expect(await scripts.run(echo, { args: { args: items } })).toEqual(items);
    const large = 'x'.repeat(3_000_000);
    expect(await scripts.run(echo, { args: { args: [large] } })).toEqual([large]);
    const push = defineScript({
      name: 'test.push',
      keys: ['list'],
      args: ['...items'],
      lua: `return redis.call('RPUSH', KEYS[1], unpack(ARGV))`,
      reply: Number,
    });
    expect(await scripts.run(push, { keys: { list: 'l' }, args: { items: items.slice(0, 7_000) } })).toBe(
      7_000,
    );
  });

  it('[OS-2] takes a quarter of a million arguments', async () => {
    const items = Array.from({ length: 250_000 }, (_, i) => i);
    const count = returning(`return { #ARGV, ARGV[#ARGV] }`);
    const large = scripts.run(count, { args: { args: items } }, { timeoutMs: 60_000 });
    expect(await large).toEqual([250_000, '249999']);
  });

  describe('a script that fails', () => {
    const failing = (lua: string) =>
      scripts.run(defineScript({ name: 'test.failing', keys: ['a', 'b'], args: [], lua, reply: identity }), {
        keys: { a: 'a', b: 'b' },
      });

    it.each([
      [
        'a Lua error',
        `redis.call('SET', KEYS[1], 1)\nlocal x = nil\nreturn x.y`,
        /^Script test\.failing failed: attempt to index local 'x' \(a nil value\) \(line 3\)$/,
        'ERR',
      ],
      [
        'an undefined global',
        `\nreturn nonsense`,
        /nonexistent global variable 'nonsense'.*\(line 2\)$/,
        'ERR',
      ],
      [
        'a command’s error',
        `redis.call('RPUSH', KEYS[1], 1)\n\nlocal n = redis.call('INCR', KEYS[1])\nreturn n`,
        /WRONGTYPE .*\(line 3\)$/,
        'WRONGTYPE',
      ],
      [
        'a command’s error in a return',
        `redis.call('RPUSH', KEYS[1], 1)\nreturn redis.call('INCR', KEYS[1])`,
        /WRONGTYPE/,
        'WRONGTYPE',
      ],
      ['error() with a text', `\nerror('no luck')`, /no luck \(line 2\)$/, 'ERR'],
      ['error() with a table', `error({ err = 'LIMIT reached' })`, /LIMIT reached/, 'LIMIT'],
      [
        'an error as its reply',
        `return redis.error_reply('LIMIT reached')`,
        /failed: LIMIT reached$/,
        'LIMIT',
      ],
      [
        'a function that calls itself for ever',
        `local function f() return 1 + f() end return f()`,
        /stack overflow/,
        'ERR',
      ],
      ['a list that holds itself', `local t = {} t[1] = t return t`, /stack overflow/, 'ERR'],
    ])('[OS-3] of %s is reported with its name and line', async (_, lua, message, reply) => {
      const error: unknown = await failing(lua).catch((e: unknown) => e);
      expect(error).toBeInstanceOf(RedisReplyError);
      expect(error).toMatchObject({ reply, outcome: 'unknown', retryable: false });
      expect((error as Error).message).toMatch(message);
    });

    it.each([
      'NOSCRIPT No matching script',
      'LOADING later',
      'BUSY later',
      'MOVED 1 127.0.0.1:1',
      'READONLY replica',
      'TRYAGAIN',
      'OOM command not allowed',
    ])('[SC-2] is not run again when its own error is %j', async (text) => {
      await redis.client.set('a', 0);
      const lua = `redis.call('INCR', KEYS[1]) return redis.error_reply('${text}')`;
      await expect(failing(lua)).rejects.toMatchObject({ outcome: 'unknown', retryable: false });
      await expect(failing(`redis.call('INCR', KEYS[1])\nerror({ err = '${text}' })`)).rejects.toMatchObject({
        outcome: 'unknown',
      });
      expect(await redis.client.get('a')).toBe('2');
    });

    it('[OS-3] returns errors inside a list as errors, and can catch its own', async () => {
      await redis.client.rpush('a', 'x');
      const [caught, nested] = (await failing(
        `local ok = pcall(redis.call, 'INCR', KEYS[1]) return { ok and 1 or 0, redis.pcall('INCR', KEYS[1]) }`,
      )) as [number, Error];
      expect(caught).toBe(0);
      expect(nested).toBeInstanceOf(RedisReplyError);
      expect(nested.message).toMatch(/WRONGTYPE/);
    });

    it('[OS-3] is refused with its line when its text is not Lua', async () => {
      for (const lua of ['return 1\nlocal = 2', 'if true then\nreturn 1'])
        await expect(failing(lua)).rejects.toThrow(/ompil.*user_script:\d/);
      await expect(failing('return 1\nlocal = 2')).rejects.toThrow(/user_script:2/);
    });

    it('[OS-3] is refused at its definition when its text closes more blocks than it opens', async () => {
      const stray = [
        'return 1\nend\nend',
        'return 1 end redis.call("SET", "x", 1) if true then return 2',
        'repeat local a = 1 end',
        'if true then return [[end]] end -- end\nend',
      ];
      for (const lua of stray)
        await expect(async () => failing(lua)).rejects.toThrow(/is not valid Lua: "end"/);
      const whole = `-- end
        --[==[ end ]] end ]==]
        local text = "end \\" end" .. 'end' .. [[ end ]]
        for i = 1, 2 do while i > 5 do end end
        repeat local f = function() if i then return 1 elseif 2 then return 2 else return 3 end end until true
        return { ending = 1 } and 7`;
      expect(await failing(whole)).toBe(7);
    });

    it('[OS-3] sees nothing of the library’s variables', async () => {
      for (const name of ['body', 'encode', 'run_body', 'recall', 'remember', 'now_ms', 'explain'])
        await expect(failing(`return ${name}`)).rejects.toThrow(/nonexistent global variable/);
    });
  });

  it('[OS-4] that is read-only gets its writes refused by Redis, and nothing was done', async () => {
    const writes = defineScript({
      name: 'test.writes',
      keys: ['a'],
      args: [],
      readOnly: true,
      lua: `redis.call('SET', KEYS[1], 1) return 1`,
      reply: identity,
    });
    await expect(scripts.run(writes, { keys: { a: 'a' } })).rejects.toMatchObject({
      constructor: RedisReplyError,
      outcome: 'not-applied',
      message: expect.stringMatching(/Write commands are not allowed/),
    });
    expect(await redis.client.keys('*')).toEqual([]);
  });

  it('[OS-4] is refused inside a transaction unless it is read-only or has propagation outside', async () => {
    const transactions = app.get(TransactionService);
    const inside = (options?: OperationOptions) =>
      inTransaction(() => scripts.run(add, { keys: { counter: 'n' }, args: { by: 1 } }, options));
    await expect(inside()).rejects.toThrow(IllegalTransactionStateError);
    expect(await inside({ propagation: 'outside' })).toBe(1);
    expect(await transactions.run(['x'], () => scripts.run(read, { keys: { counter: 'n' } }))).toBe(1);
  });

  it('[OS-5] does nothing when Redis is out of memory, or everything once it has freed some', async () => {
    await redis.client.set('n', 1);
    const script = (name: string, lua: string) =>
      defineScript({ name, keys: ['counter'], args: [], lua, reply: Number });
    const readFirst = script(
      'test.readFirst',
      `redis.call('GET', KEYS[1]) redis.call('APPEND', KEYS[1], '0') return redis.call('DEL', KEYS[1])`,
    );
    const onlyRead = script('test.onlyRead', `return redis.call('GET', KEYS[1])`);
    const delThenAdd = script(
      'test.delThenAdd',
      `redis.call('DEL', KEYS[1]) return redis.call('INCRBY', KEYS[1], 5)`,
    );
    const input = { keys: { counter: 'n' } };
    try {
      await redis.client.config('SET', 'maxmemory', 1);
      for (const refused of [readFirst, onlyRead])
        await expect(scripts.run(refused, input)).rejects.toMatchObject({
          reply: 'OOM',
          outcome: 'not-applied',
        });
      expect(await scripts.run(read, input)).toBe(1);
      expect(await scripts.run(delThenAdd, input)).toBe(5);
    } finally {
      await redis.client.config('SET', 'maxmemory', 0);
    }
    expect(await redis.client.get('n')).toBe('5');
  });

  it('[SC-1] runs after SCRIPT FLUSH, between any two calls', async () => {
    for (let n = 1; n <= 3; n++) {
      await redis.client.script('FLUSH');
      expect(await scripts.run(add, { keys: { counter: 'n' }, args: { by: 1 } })).toBe(n);
      await redis.client.script('FLUSH');
      expect(await scripts.run(read, { keys: { counter: 'n' } })).toBe(n);
    }
  });

  it.each([undefined, null, {}, Number.NaN, 1.5, Infinity, [1], true, 2 ** 53])(
    '[ARG-1] refuses %p as key or argument before any command',
    async (value) => {
      const counts = await countCommands(redis.client, async () => {
        const bad = value as never;
        await expect(scripts.run(add, { keys: { counter: bad }, args: { by: 1 } })).rejects.toThrow(
          InvalidArgumentError,
        );
        await expect(scripts.run(add, { keys: { counter: 'n' }, args: { by: bad } })).rejects.toThrow(
          /test\.add\.by/,
        );
      });
      expect(counts).toEqual({});
    },
  );

  it('[ARG-1] refuses anything that is no script, no input, or no option', async () => {
    const good = { keys: { counter: 'n' }, args: { by: 1 } };
    await expect(scripts.run('x' as never, good)).rejects.toThrow(
      /script must be a script made by defineScript/,
    );
    await expect(scripts.run(add, undefined as never)).rejects.toThrow(/input must be/);
    await expect(scripts.run(add, { ...good, key: {} } as never)).rejects.toThrow(
      /input\.key must be absent/,
    );
    await expect(scripts.run(add, {} as never)).rejects.toThrow(/test\.add\.counter/);
    await expect(scripts.run(add, good, { timeoutMs: 0 })).rejects.toThrow(/options\.timeoutMs/);
    const limited = defineScript({
      name: 'l',
      keys: [],
      args: ['notAfterMs'],
      lua: 'return 1',
      reply: identity,
    });
    await expect(scripts.run(limited, {})).rejects.toThrow(ConfigurationError);
    expect(() => returning('#!lua name=x\nreturn 1')).toThrow(/#!/);
  });
});

describe('the check of declared keys', () => {
  const boot = useApp();
  const redis = useRedis();
  const start = (options: Partial<AtomicRedisOptions>) => boot({ connection: redis.server.url, ...options });
  const script = (lua: string, readOnly = false) =>
    defineScript({ name: 'test.touch', keys: ['a', 'b'], args: ['...args'], lua, readOnly, reply: identity });
  const input = { keys: { a: 'a', b: 'b' }, args: { args: ['other'] } };

  it.each([
    ['SET', `redis.call('SET', KEYS[1] .. ':log', 1)`, 'a:log'],
    ['set', `redis.call('set', 'a:' .. ARGV[1], 1)`, 'a:other'],
    ['ZUNIONSTORE', `redis.call('ZUNIONSTORE', KEYS[1], 2, KEYS[2], 'z')`, 'z'],
    ['LMOVE', `redis.pcall('LMOVE', KEYS[1], 'to', 'LEFT', 'LEFT')`, 'to'],
    ['DEL', `local ok = pcall(redis.call, 'DEL', KEYS[1], 'x') return ok`, 'x'],
    ['GET', `local call = redis.call return call('GET', 'hidden')`, 'hidden'],
    ['XREAD', `return redis.call('XREAD', 'STREAMS', KEYS[1], 's2', '0', '0')`, 's2'],
  ])('[OS-6] stops %s that uses an undeclared key before it is sent', async (command, lua, key) => {
    const app = await start({ scripts: { checkKeys: true } });
    try {
      const error: unknown = await app
        .get(ScriptService)
        .run(script(lua), input)
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(UndeclaredKeyError);
      expect(error).toMatchObject({
        script: 'test.touch',
        key,
        command,
        outcome: 'unknown',
        retryable: false,
      });
      expect((error as Error).message).toContain('Script test.touch was about to send');
      expect(await redis.client.exists(key, 'a', 'b')).toBe(0);
    } finally {
      await app.close();
    }
  });

  it('[OS-6] accepts declared keys, and commands without keys, even in read-only scripts', async () => {
    const app = await start({ scripts: { checkKeys: true } });
    const scripts = app.get(ScriptService);
    try {
      const lua = `redis.call('MSET', KEYS[1], 1, KEYS[2], 2) redis.call('PUBLISH', 'channel', 'x') redis.call('PING')
return redis.call('MGET', KEYS[2], KEYS[1])`;
      expect(await scripts.run(script(lua), input)).toEqual(['2', '1']);
      await expect(scripts.run(script(`return redis.call('GET', 'x')`, true), input)).rejects.toThrow(
        UndeclaredKeyError,
      );
      expect(await scripts.run(script(`return redis.call('GET', KEYS[2])`, true), input)).toBe('2');
      // A command that does not exist, or with too few arguments, has an error of its own.
      await expect(scripts.run(script(`return redis.call('NONSENSE')`), input)).rejects.toThrow(/nknown/);
      await expect(scripts.run(script(`return redis.call('GET')`), input)).rejects.toThrow(
        /rong number of arg/,
      );
      await expect(scripts.run(script(`return redis.call()`), input)).rejects.toThrow(RedisReplyError);
    } finally {
      await app.close();
    }
  });

  it('[OS-6] recognises keys under the client’s key prefix', async () => {
    const app = await start({
      connection: { host: '127.0.0.1', port: redis.server.port, keyPrefix: 'app:' },
      scripts: { checkKeys: true },
    });
    try {
      expect(await app.get(ScriptService).run(script(`return redis.call('SET', KEYS[1], 1)`), input)).toBe(
        'OK',
      );
      expect(await redis.client.get('app:a')).toBe('1');
    } finally {
      await app.close();
    }
  });

  it('[OS-6] is on unless NODE_ENV is production or the option is off', async () => {
    const isOn = async (options: Partial<AtomicRedisOptions>): Promise<boolean> => {
      const app = await start(options);
      try {
        return await app
          .get(ScriptService)
          .run(script(`return redis.call('GET', 'x')`), input)
          .then(
            () => false,
            () => true,
          );
      } finally {
        await app.close();
      }
    };
    const { NODE_ENV } = process.env;
    try {
      expect(await isOn({})).toBe(true);
      expect(await isOn({ scripts: { checkKeys: false } })).toBe(false);
      process.env.NODE_ENV = 'production';
      expect(await isOn({})).toBe(false);
      expect(await isOn({ scripts: { checkKeys: true } })).toBe(true);
    } finally {
      process.env.NODE_ENV = NODE_ENV;
    }
  });
});
