import {
  defineScript,
  InvalidArgumentError,
  OutcomeUnknownError,
  PartialCommitError,
  RedisReplyError,
  type Transaction,
} from '../../lib/index.js';
import { startFaultProxy } from '../../lib/testing/index.js';
import { useBoot } from '../support/boot.js';
import { MAX_PARTS } from '../support/dragonfly-double.js';
import { leastRights, leastRightsAndShadowKeys, PASSWORD, USER } from '../support/least-rights.js';
import { expectOutOfMemory } from '../support/refused-calls.js';
import { DOUBLE, useTarget } from '../support/target.js';
import { waitFor } from '../support/wait-for.js';

/** Writes that TypeScript would not allow. */
type Loose = Record<string, (...args: unknown[]) => unknown>;

describe('Dragonfly, as imitated by a test double', () => {
  const target = useTarget(DOUBLE, { asUser: true });
  const run = useBoot();
  const [key, other] = ['app:{a}:k', 'app:{a}:o'];
  const allow = (...rules: string[]) => target.client.call('ACL', 'SETUSER', USER, ...rules);
  const valuesOf = () => target.client.mget(key, other);
  const loose = (tx: Transaction) => tx.write as unknown as Loose;

  describe('executing the commands behind one it refused inside a MULTI', () => {
    beforeEach(() => allow('+incr', '+incrby', '+setex'));
    afterEach(() => allow('-incr', '-incrby', '-setex'));

    it('executes them and answers EXECABORT', async () => {
      const answers = await Promise.all(
        [['MULTI'], ['SET', other, '1'], ['GET'], ['SET', key, '1'], ['EXEC']].map(([name, ...args]) =>
          target.client.call(name!, args).catch((error: Error) => error.message.split(' ')[0]),
        ),
      );
      expect(answers).toEqual(['OK', 'QUEUED', 'ERR', 'OK', 'EXECABORT']);
      expect(await valuesOf()).toEqual(['1', null]);
    });

    it.each([
      ['of a wrong number of arguments', (tx: Transaction) => loose(tx)['setex']!(key, 1)],
      ['unknown to the server', (tx: Transaction) => loose(tx)['hgetdel']!(key, 'FIELDS', 1, 'f')],
    ])('[DFLY-1] a command %s is refused before anything is sent', async (_, write) => {
      let runs = 0;
      const running = target.redis.transactions.run([key], async (tx) => {
        runs++;
        await tx.read.get(key);
        tx.write.set(other, 1);
        write(tx);
        tx.write.set(key, 1);
      });
      await expect(running).rejects.toBeInstanceOf(RedisReplyError);
      await expect(running).rejects.toMatchObject({ reply: 'ERR', outcome: 'not-applied', retryable: false });
      expect(runs).toBeLessThan(5);
      expect(await valuesOf()).toEqual([null, null]);
      // The connection is as good as before.
      await target.redis.transactions.run([key], (tx) => void tx.write.set(key, 2));
      expect(await valuesOf()).toEqual(['2', null]);
    });

    it('[DFLY-1] a command that the user may not use leaves the transaction applied in part, and the error reports so', async () => {
      await allow('-incr');
      let runs = 0;
      const running = target.redis.transactions.run([key], (tx) => {
        runs++;
        tx.write.set(other, 1);
        tx.write.incr(other);
        tx.write.incrby(key, 1);
      });
      await expect(running).rejects.toBeInstanceOf(PartialCommitError);
      await expect(running).rejects.toMatchObject({
        outcome: 'applied',
        index: 0,
        replies: [expect.any(Error), expect.any(Error), 1],
      });
      expect(runs).toBeLessThan(5);
      expect(await valuesOf()).toEqual(['1', null]);
    });

    it('[DFLY-1] a transaction of which nothing was executed is reported as not applied', async () => {
      await allow('-incr');
      const running = target.redis.transactions.run([key], (tx) => {
        tx.write.set(key, 1);
        tx.write.incr(other);
      });
      await expect(running).rejects.toBeInstanceOf(RedisReplyError);
      await expect(running).rejects.toMatchObject({ reply: 'NOPERM', outcome: 'not-applied' });
      expect(await valuesOf()).toEqual([null, null]);
    });

    it('[DFLY-1] when the replies are lost after a refusal, the outcome is unknown and nothing runs twice', async () => {
      const proxy = await startFaultProxy({ target: target.double! });
      try {
        await allow('-incr');
        const { redis } = await run.boot({
          namespace: 'atomic:',
          connection: { host: proxy.host, port: proxy.port, username: USER, password: PASSWORD },
        });
        // All is done, and no answer arrives from that to MULTI on.
        proxy.blackHole({ match: ({ name }) => name === 'MULTI', deliver: true });
        const running = redis.transactions.run([key], async (tx) => {
          await tx.read.get(key);
          tx.write.incr(other);
          tx.write.incrby(key, 1);
        });
        await expect(running).rejects.toBeInstanceOf(OutcomeUnknownError);
        expect(await valuesOf()).toEqual(['1', null]);
      } finally {
        await proxy.stop();
      }
    });

    it('[DFLY-1] an EXEC whose reply is lost is found to be applied', async () => {
      const proxy = await startFaultProxy({ target: target.double! });
      try {
        const { redis } = await run.boot({
          namespace: 'atomic:',
          connection: { host: proxy.host, port: proxy.port, username: USER, password: PASSWORD },
        });
        let runs = 0;
        proxy.loseReplies({ match: ({ name }) => name === 'EXEC' });
        await redis.transactions.run([key], (tx) => {
          runs++;
          tx.write.incrby(key, 1);
        });
        const before = runs;
        proxy.cutBeforeServer({ match: ({ name }) => name === 'MULTI' });
        await redis.transactions.run([key], (tx) => {
          runs++;
          tx.write.incrby(key, 1);
        });
        // Nothing of its first attempt arrived, so there was another.
        expect(runs).toBeGreaterThan(before + 1);
        expect(await valuesOf()).toEqual(['2', null]);
      } finally {
        await proxy.stop();
      }
    });

    it('[DFLY-1] one transaction’s refused command leaves the values of all other transactions on the key exact', async () => {
      await allow('-incr');
      const all = await Promise.allSettled(
        Array.from({ length: 60 }, (_, i) =>
          target.redis.transactions.run([key], async (tx) => {
            const value = Number(await tx.read.get(key));
            tx.write.set(key, value + 1);
            if (i % 6 === 3) tx.write.incr(other);
          }),
        ),
      );
      const applied = all.filter(({ status }) => status === 'fulfilled').length;
      expect(applied).toBe(50);
      expect(await valuesOf()).toEqual(['50', null]);
    });
  });

  describe('reporting script errors in its own words', () => {
    const script = (name: string, lua: string) =>
      defineScript({ name, keys: ['key'], args: ['value'], lua, reply: (raw) => raw });

    it('does so for a script alone and for a script that uses pcall', async () => {
      await target.client.rpush('app:list', 'x');
      await expect(target.client.eval("return redis.call('GET', KEYS[1])", 1, 'app:list')).rejects.toThrow(
        /^ERR Error running script \(call to [0-9a-f]{40}\): @user_script:2: -WRONGTYPE /,
      );
    });

    it('[DFLY-2] an error keeps its code, and the outcome is unknown', async () => {
      await target.client.rpush('app:list', 'x');
      const { scripts } = target.redis;
      const writes = script('own', "redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])");
      const reads = { ...script('reads', "return redis.call('GET', KEYS[1])"), readOnly: true };
      const input = { keys: { key: 'app:list' }, args: { value: '1' } };
      const calls = await Promise.allSettled([scripts.run(writes, input), scripts.run(reads, input)]);
      const reasons = calls.map((call) => (call as PromiseRejectedResult).reason as RedisReplyError);
      for (const reason of reasons)
        expect(reason).toMatchObject({ code: 'REDIS_REPLY', reply: 'WRONGTYPE', retryable: false });
      // It had written; a script that only reads has no outcome to be unknown.
      expect(reasons[0]!.outcome).toBe('unknown');
      expect(reasons[1]!.outcome).toBe('not-applied');
      expect(await target.client.llen('app:list')).toBe(2);
    });

    it('[DFLY-2] calls that share an EVALSHA each keep their own error', async () => {
      await target.client.rpush('app:list', 'x');
      const reads = script('shared', "return redis.call('GET', KEYS[1]) or ARGV[1]");
      const calls = await Promise.allSettled(
        Array.from({ length: 8 }, (_, i) =>
          target.redis.scripts.run(reads, {
            keys: { key: i % 2 ? `app:v${i}` : 'app:list' },
            args: { value: 'none' },
          }),
        ),
      );
      for (const [i, call] of calls.entries())
        if (i % 2) expect(call).toEqual({ status: 'fulfilled', value: 'none' });
        else
          expect((call as PromiseRejectedResult).reason).toMatchObject({
            reply: 'WRONGTYPE',
            outcome: 'unknown',
            retryable: false,
          });
    });

    it('[DFLY-2] a word of the user’s that looks like an error code is not taken for one', async () => {
      const { scripts } = target.redis;
      const says = script('says', "error('NOSCRIPT READONLY ' .. ARGV[1])");
      await expect(
        scripts.run(says, { keys: { key: 'app:own' }, args: { value: '1' } }),
      ).rejects.toMatchObject({
        reply: 'ERR',
        outcome: 'unknown',
        retryable: false,
      });
    });
  });

  describe('closing the connection when a command has too many arguments', () => {
    const push = defineScript({
      name: 'push',
      keys: ['key'],
      args: ['...values'],
      lua: "for i = 1, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end return #ARGV",
      reply: Number,
    });
    const many = (count: number) => Array.from({ length: count }, () => 'x');

    it('closes it', async () => {
      const client = target.ownClient({ lazyConnect: true });
      client.on('error', () => undefined);
      await expect(client.call('RPUSH', [key, ...many(MAX_PARTS)])).rejects.toThrow(/Protocol error|closed/);
      client.disconnect();
    });

    it('[DFLY-3] a script call with one argument too many is refused, and no other call is affected', async () => {
      const { scripts, counters } = target.redis;
      const patient = { timeoutMs: 60_000 };
      // EVALSHA, its text's name, the number of keys, and what the library adds.
      const fits = MAX_PARTS - 7;
      const [tooMany, enough, ...others] = await Promise.allSettled([
        scripts.run(push, { keys: { key }, args: { values: many(fits + 1) } }, patient),
        scripts.run(push, { keys: { key }, args: { values: many(fits) } }, patient),
        ...Array.from({ length: 5 }, () => counters.add('app:n', 1, patient)),
      ]);
      expect((tooMany as PromiseRejectedResult).reason).toBeInstanceOf(InvalidArgumentError);
      expect(enough).toEqual({ status: 'fulfilled', value: fits });
      expect(others.map(({ status }) => status)).toEqual(Array(5).fill('fulfilled'));
      expect(await target.client.llen(key)).toBe(fits);
    });

    it.each([
      ['write', (tx: Transaction) => Promise.resolve(void tx.write.rpush(key, ...many(MAX_PARTS - 1)))],
      ['read', (tx: Transaction) => tx.read.exists(...many(MAX_PARTS))],
    ])('[DFLY-3] a %s of a transaction with one argument too many is refused', async (_, act) => {
      const { transactions } = target.redis;
      const running = transactions.run([key], async (tx) => {
        tx.write.set(other, 1);
        await act(tx);
      });
      await expect(running).rejects.toBeInstanceOf(InvalidArgumentError);
      expect(await valuesOf()).toEqual([null, null]);
      // The connection is as good as before.
      await transactions.run([key], (tx) => void tx.write.set(key, 2));
      expect(await valuesOf()).toEqual(['2', null]);
    });
  });

  describe('refusing new keys when its memory is nearly full, but changing existing ones', () => {
    afterEach(() => target.double!.setMemoryFull(false));

    it('[DFLY-5] transfers and additions to several counters are applied whole or not at all', async () => {
      const { transfers, counters } = target.redis;
      await target.client.mset('app:{m}:a', 100, 'app:{m}:b', 100);
      const transfer = (to: string) => transfers.transfer({ from: 'app:{m}:a', to, amount: 10 });
      const addAll = (name: string) =>
        counters.addAll([
          { key: 'app:{m}:b', amount: 5 },
          { key: name, amount: 5 },
        ]);
      await transfer('app:{m}:b');
      await target.double!.setMemoryFull(true);
      const refused = await Promise.allSettled([
        transfer('app:{m}:new'),
        addAll('app:{m}:new'),
        // The library's own key for it would be new too.
        transfer('app:{m}:b'),
        counters.add('app:{m}:new', 1, { ttlMs: 60_000 }),
      ]);
      expectOutOfMemory(refused);
      expect(await target.client.mget('app:{m}:a', 'app:{m}:b', 'app:{m}:new')).toEqual(['90', '110', null]);
      await target.double!.setMemoryFull(false);
      await transfer('app:{m}:new');
      await addAll('app:{m}:new');
      expect(await target.client.mget('app:{m}:a', 'app:{m}:b', 'app:{m}:new')).toEqual(['80', '115', '15']);
    });

    it('[DFLY-5] keys created before the refused one are removed again', async () => {
      const { transfers, counters } = target.redis;
      await target.client.mset('app:{m}:a', 100, 'app:{m}:b', 100);
      await counters.add('app:{m}:b', 0);
      // There is memory for what the library keeps, and for the first of two new keys.
      await target.double!.setMemoryFull(true, 'new2');
      const transfer = (to: string) => ({ from: 'app:{m}:a', to, amount: 10 });
      const add = (name: string) => ({ key: name, amount: 5 });
      const refused = await Promise.allSettled([
        transfers.transferAll([transfer('app:{m}:new1'), transfer('app:{m}:new2')]),
        counters.addAll([add('app:{m}:b'), add('app:{m}:new1'), add('app:{m}:new2')]),
        counters.add('app:{m}:new2', 1),
      ]);
      for (const one of refused)
        expect((one as PromiseRejectedResult).reason).toMatchObject({
          reply: 'OOM',
          outcome: 'not-applied',
          retryable: true,
        });
      const keys = ['app:{m}:a', 'app:{m}:b', 'app:{m}:new1', 'app:{m}:new2'];
      expect(await target.client.mget(keys)).toEqual(['100', '100', null, null]);
    });

    it('[DFLY-5] an existing counter still accepts additions', async () => {
      const { counters } = target.redis;
      await counters.add('app:n', 1);
      await target.double!.setMemoryFull(true);
      expect((await counters.add('app:n', 1)).value).toBe(2);
    });

    it('[DFLY-5] a refusal from within a script leaves the outcome unknown', async () => {
      const both = defineScript({
        name: 'both',
        keys: ['first', 'second'],
        args: [],
        lua: "redis.call('SET', KEYS[1], '1') redis.call('SET', KEYS[2], '1') return 'done'",
        reply: String,
      });
      await target.client.set('app:{m}:a', '0');
      const input = { keys: { first: 'app:{m}:a', second: 'app:{m}:new' }, args: {} };
      await target.redis.scripts.run(both, { keys: { first: 'app:{m}:x', second: 'app:{m}:y' }, args: {} });
      await target.double!.setMemoryFull(true);
      await expect(target.redis.scripts.run(both, input, { deduplicate: false })).rejects.toMatchObject({
        outcome: 'unknown',
        retryable: false,
      });
      expect(await target.client.get('app:{m}:a')).toBe('1');
    });
  });

  describe('at boot', () => {
    it('[DFLY-4] a user with the documented rights gets no error, and one line of the log says what to configure', async () => {
      await run.boot({ namespace: 'atomic:', connection: target.connection() });
      await waitFor('both lines', () => run.lines.length >= 2);
      expect(run.lines).toEqual([
        expect.stringMatching(/^log: Connected to Dragonfly 1\.40\.1 at /),
        expect.stringMatching(/^warn: Dragonfly at .* Keep headroom/),
      ]);
    });

    it('[DFLY-4] the documented rule equals that of Redis without subcommands and ASKING, and with COMMAND', () => {
      const words = leastRights()
        .filter((word) => word !== '+asking')
        .map((word) => word.replace(/[|].*/, ''));
      expect([...new Set(leastRights('dragonfly'))].toSorted()).toEqual(
        [...new Set([...words, '+command'])].toSorted(),
      );
    });

    it('[DFLY-4] the check names a missing right and changes nothing', async () => {
      await allow('-zadd', '-hset');
      try {
        await run.boot({ namespace: 'atomic:', connection: target.connection() });
        expect(run.lines.find((line) => line.startsWith('error'))).toMatch(/: HSET, ZADD\. /);
        expect(await target.client.keys('*')).toEqual([]);
      } finally {
        await allow(...leastRightsAndShadowKeys('dragonfly').slice(1));
      }
    });
  });
});
