import type { TestingModule } from '@nestjs/testing';
import {
  NotReplicatedError,
  OutcomeUnknownError,
  RedisUnavailableError,
  RepliesLostError,
  TransactionService,
  type TransactionOptions,
  type Transaction,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { Deadline } from '../../lib/runtime/deadline.js';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { Committer, type Share } from '../../lib/transactions/commit.js';
import type { Sent } from '../../lib/transactions/exec-answer.js';
import { resolveScript, type Resolution } from '../../lib/transactions/resolve.script.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { holdRequest } from '../support/hold-request.js';
import { useRedis } from '../support/redis.js';

const onExec = { match: ({ name }: RedisCommand) => name === 'EXEC' };
const onResolve = {
  match: ({ name, args }: RedisCommand) => name === 'EVALSHA' && args[0]?.toString() === resolveScript.sha,
};

describe('a transaction whose connection dies', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let transactions: TransactionService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url, shutdownTimeoutMs: 1_000 });
    transactions = app.get(TransactionService);
    await redis.client.set('k', 0);
  });

  afterEach(async () => {
    await redis.client.config('SET', 'maxmemory', '0');
    await proxy.stop();
  });

  let attempts = 0;
  const increment = (options?: TransactionOptions): Promise<number> => {
    attempts = 0;
    return transactions.run(
      ['k'],
      async (tx) => {
        attempts++;
        const next = Number(await tx.read.get('k')) + 1;
        tx.write.set('k', next);
        return next;
      },
      options,
    );
  };
  const markers = (): Promise<string[]> => redis.client.keys('atomic:transaction:*');

  it('[TX-15] does not cost others their replies when little of its own time is left', async () => {
    await increment();
    proxy.delay({ ...onExec, replyMs: 150 });
    const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
    const lead = transactions.run(['k'], (tx) => sleep(30).then(() => void tx.write.set('k', 1)), {
      requireReplies: true,
    });
    const hurried = transactions.run(['k'], (tx) => void tx.write.set('k', 2), { timeoutMs: 100 });
    const other = transactions.run(['k'], (tx) => void tx.write.set('k', 3), { requireReplies: true });
    const results = await Promise.allSettled([lead, hurried, other]);
    expect([results[0], results[2]]).toMatchObject([{ status: 'fulfilled' }, { status: 'fulfilled' }]);
  });

  it('[TX-16] takes no effect after the error if Redis refuses to resolve the EXEC', async () => {
    const { host, port } = proxy;
    await redis.client.acl('SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all');
    const module = await boot({ connection: { host, port, username: 'app', password: 'secret' } });

    transactions = module.get(TransactionService);
    await increment();
    await redis.client.acl('SETUSER', 'app', '-eval', '-evalsha');
    const late = proxy.deliverLate(700, onExec);
    const outcome = await increment({ timeoutMs: 3_000 }).catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(OutcomeUnknownError);
    const told = await redis.client.get('k');
    await late.delivered;
    expect(await redis.client.get('k')).toBe(told);
  });

  it('[TX-16] waits for no EXEC that was answered, or that no caller awaits', async () => {
    const { host, port } = proxy;
    await redis.client.acl('SETUSER', 'other', 'on', '>secret', '~*', '&*', '+@all');
    const module = await boot({
      connection: { host, port, username: 'other', password: 'secret' },
      shutdownTimeoutMs: 100,
    });
    transactions = module.get(TransactionService);
    await increment();
    // It is known to be applied, and Redis refuses to say more.
    await redis.client.acl('SETUSER', 'other', '-eval', '-evalsha');
    proxy.cutBeforeServer({ match: ({ name }) => name === 'WAIT' });
    let startedAt = performance.now();
    const alone = increment({ timeoutMs: 30_000, durability: { replicas: 1, timeoutMs: 500 } });
    await expect(alone).rejects.toThrow(NotReplicatedError);
    expect(performance.now() - startedAt).toBeLessThan(15_000);
    await redis.client.acl('SETUSER', 'other', '+eval', '+evalsha');

    // Only this is left when the module has closed.
    const committer = new Committer(module.get(RedisConnection), module.get(ScriptRunner));
    await module.close();
    const connection = { discard: () => undefined, marker: { keyIn: () => 'marker' } };
    const lifetime = { endsBy: performance.now() + 30_000 };
    const answer = Promise.reject(new Error('Connection is closed.'));
    const sent = { connection, slot: 0, attempt: '1', ttlMs: 60_000, lifetime, answer } as unknown as Sent;
    const share = { deadline: Deadline.in(30_000) } as Share;
    startedAt = performance.now();
    await expect(committer.outcomeOf(sent, share)).rejects.toThrow(OutcomeUnknownError);
    expect(performance.now() - startedAt).toBeLessThan(15_000);
  });

  /**
   * Cuts the connection between a read and EXEC, after another client has written. Returns the
   * values that were read, and the one that was written.
   */
  const cutBeforeExec = async (onCut: (tx: Transaction) => unknown): Promise<unknown> => {
    const seen: (string | null)[] = [];
    await transactions.run(['k'], async (tx) => {
      seen.push(await tx.read.get('k'));
      if (seen.length === 1) {
        await redis.client.set('k', 'written by another');
        proxy.disconnectAll();
        await onCut(tx);
      }
      tx.write.set('k', `${seen.at(-1)}, then this`);
    });
    return [...seen, await redis.client.get('k')];
  };
  const FRESH = ['0', 'written by another', 'written by another, then this'];

  it('[TX-10] never commits unwatched: cut between read and EXEC, it runs again on the new value', async () => {
    // Noticed by then, and swallowed by the work: the attempt must not be committed all the same.
    const written = cutBeforeExec((tx) => expect(tx.read.get('k')).rejects.toThrow(RedisUnavailableError));
    expect(await written).toEqual(FRESH);
  });

  it('[TX-10] runs again when the connection died unnoticed before EXEC was written', async () => {
    expect(await cutBeforeExec(() => undefined)).toEqual(FRESH);
  });

  it('[TX-10] is applied once when the reply to EXEC was lost, and reports success', async () => {
    const fault = proxy.loseReplies(onExec);
    const replies: unknown[] = [];
    await expect(increment({ onReplies: (all) => replies.push(all) })).resolves.toBe(1);
    expect(fault.count).toBe(1);
    expect(attempts).toBeLessThan(5);
    expect(replies).toEqual([null]);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-10] is resolved separately from others that shared the lost connection', async () => {
    const lost = proxy.loseReplies({ ...onExec, times: 3 });
    // Only Redis can tell how long the value is, so each has an EXEC of its own.
    const incrementAlone = (): Promise<number> =>
      transactions.run(['k'], async (tx) => {
        const [value] = await Promise.all([tx.read.get('k'), tx.read.strlen('k')]);
        tx.write.set('k', Number(value) + 1);
        return Number(value) + 1;
      });
    const results = await Promise.all(Array.from({ length: 30 }, incrementAlone));
    expect(lost.count).toBe(3);
    expect(results.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
    expect(await redis.client.get('k')).toBe('30');
  });

  describe('in a group that one EXEC commits', () => {
    const oneToTen = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    let answers: unknown[];

    // Opens the connection, or the first turn would be given up for taking so long.
    beforeEach(() => transactions.run(['other'], (tx) => void tx.write.incr('other')));

    const incrementAll = async (): Promise<number[]> => {
      answers = [];
      const onReplies = (all: unknown): void => void answers.push(all);
      const results = await Promise.all(oneToTen.map(() => increment({ onReplies })));
      return results.toSorted((a, b) => a - b);
    };

    it('[TX-10] is resolved with its group when the reply was lost', async () => {
      const lost = proxy.loseReplies(onExec);
      expect(await incrementAll()).toEqual(oneToTen);
      expect(lost.count).toBe(1);
      expect(answers).toContain(null);
      expect(await redis.client.get('k')).toBe('10');
    });

    it('[TX-10] runs again with its group when EXEC never reached the server', async () => {
      const cut = proxy.cutBeforeServer(onExec);
      expect(await incrementAll()).toEqual(oneToTen);
      expect(cut.count).toBe(1);
      expect(answers).not.toContain(null);
      expect(await redis.client.get('k')).toBe('10');
    });
  });

  it('[TX-10] keeps its reply even if the next transaction on its connection is aborted', async () => {
    await increment();
    // Longer than a connection that is closed waits for what it has asked.
    const exec = proxy.delay({ ...onExec, replyMs: 1_500 });
    const replies: unknown[] = [];
    const first = increment({ onReplies: (all) => replies.push(all && [...all]) });
    await exec.triggered;
    const reason = new Error('enough');
    const abort = new AbortController();
    const second = transactions.run(
      ['other'],
      () => {
        abort.abort(reason);
        return new Promise(() => undefined);
      },
      { signal: abort.signal },
    );
    await expect(second).rejects.toBe(reason);
    expect(replies).toEqual([]);
    await first;
    expect(replies).toEqual([['OK']]);
    await expect(increment()).resolves.toBe(3);
  });

  it('[TX-10] throws RepliesLostError instead if replies are required', async () => {
    proxy.loseReplies(onExec);
    const running = increment({ requireReplies: true });
    await expect(running).rejects.toThrow(RepliesLostError);
    await expect(running).rejects.toMatchObject({ outcome: 'applied', retryable: false });
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-10] runs again, once, when EXEC never reached the server', async () => {
    proxy.cutBeforeServer(onExec);
    await expect(increment()).resolves.toBe(1);
    expect(attempts).toBeGreaterThan(1);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-10] throws an error of the library when an EXEC did not reach the server and no time is left for another', async () => {
    proxy.cutBeforeServer(onExec);
    let bodies = 0;
    const running = transactions.run(
      ['k'],
      (tx) => {
        bodies++;
        tx.write.set('k', 'never');
      },
      { timeoutMs: 3_000, backoff: { minMs: 20_000, maxMs: 20_000 } },
    );
    await expect(running).rejects.toThrow(RedisUnavailableError);
    await expect(running).rejects.toMatchObject({ outcome: 'not-applied', retryable: true });
    expect(bodies).toBeLessThan(5);
    expect(await redis.client.get('k')).toBe('0');
  });

  it('[TX-10] fences an EXEC that arrives after its connection was given up', async () => {
    const late = proxy.deliverLate(400, onExec);
    await expect(increment()).resolves.toBe(1);
    expect(attempts).toBeGreaterThanOrEqual(2);
    await late.delivered;
    await redis.client.ping();
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-10] never takes effect after it was reported as not applied, even if EXEC arrives later', async () => {
    await increment();
    const late = proxy.deliverLate(400, onExec);
    const reason = new Error('the caller gave up');
    const abort = new AbortController();
    void late.triggered.then(() => abort.abort(reason));
    // EXEC is resolved first, and only then the caller's signal is obeyed; the key was not written
    // since.
    await expect(increment({ signal: abort.signal })).rejects.toBe(reason);
    expect(await late.delivered).toBe(true);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-10] fences a late EXEC even when memory is full', async () => {
    await increment();
    const late = proxy.deliverLate(400, onExec);
    const refused = transactions.run(['k', 'list'], async (tx) => {
      await tx.read.get('k');
      await redis.client.config('SET', 'maxmemory', '1');
      tx.write.del('k');
    });
    // Deleting needs no memory, but marking the commit does: the second attempt is refused, and not
    // applied.
    await expect(refused).rejects.toMatchObject({ reply: 'OOM', outcome: 'not-applied' });
    await redis.client.config('SET', 'maxmemory', '0');
    await late.delivered;
    await redis.client.ping();
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-10] is resolved again when the reply to the resolution was lost', async () => {
    proxy.loseReplies(onExec);
    const lost = proxy.loseReplies(onResolve);
    await expect(increment()).resolves.toBe(1);
    proxy.cutBeforeServer(onExec);
    const again = proxy.loseReplies(onResolve);
    await expect(increment()).resolves.toBe(2);
    expect([lost.count, again.count]).toEqual([1, 1]);
    expect(await redis.client.get('k')).toBe('2');
  });

  it.each([
    ['a commit', '7', 'applied'],
    ['another attempt', '6', 'not-applied'],
    ['nothing, as after its time to live', undefined, 'unknown'],
  ])(
    '[TX-10] gets one resolution for any number of callers when the marker holds %s',
    async (_, value, expected) => {
      const connection = app.get(RedisConnection);
      const scripts = new ScriptRunner(connection);
      if (value !== undefined) await redis.client.set('marker', value);
      const ask = (): Promise<Resolution> =>
        scripts.run(
          resolveScript,
          { marker: 'marker', beginning: 'marker' },
          { attempt: '7', ttlMs: 60_000 },
          Deadline.in(2_000),
        );
      const answers = await Promise.all([ask(), ask(), ask()]);
      expect([...answers, await ask()]).toEqual(Array(4).fill(expected));
      // A leftover marker expires; a committed one has its own time to live.
      expect((await redis.client.pttl('marker')) > 0).toBe(value !== '7');
      expect(await redis.client.get('marker')).toBe(value ?? 'lost');
    },
  );

  it('[TX-10] is resolved over another connection when EXEC is not answered, long before the deadline', async () => {
    proxy.blackHole({ ...onExec, deliver: true });
    const startedAt = performance.now();
    await expect(increment()).resolves.toBe(1);
    expect(performance.now() - startedAt).toBeLessThan(6_000);
    expect(await redis.client.get('k')).toBe('1');
  });

  it('[TX-10] has an unknown outcome when Redis stays away until the deadline', async () => {
    await increment();
    const fault = proxy.loseReplies(onExec);
    void fault.triggered.then(() => proxy.refuseConnections(true)).then(() => proxy.disconnectAll());
    const startedAt = performance.now();
    const running = increment({ timeoutMs: 2_000 });
    await expect(running).rejects.toThrow(OutcomeUnknownError);
    expect(performance.now() - startedAt).toBeGreaterThan(1_900);
    // Far from the ten seconds that it has by default.
    expect(performance.now() - startedAt).toBeLessThan(6_000);
    await expect(running).rejects.toMatchObject({ outcome: 'unknown', retryable: false });
  });

  it('[TX-10] has an unknown outcome when the marker is gone, and is never reported as not applied', async () => {
    await increment();
    proxy.deliverLate(300, onExec);
    const gone = holdRequest(proxy, onResolve, async () => redis.client.del(...(await markers())));
    await expect(increment()).rejects.toThrow(OutcomeUnknownError);
    expect(await gone).toBe(1);
  });

  it('[TX-10] runs again on another connection when a read is not answered, long before the deadline', async () => {
    await increment();
    proxy.blackHole({ match: ({ name }) => name === 'GET' });
    const startedAt = performance.now();
    await expect(increment()).resolves.toBe(2);
    expect(performance.now() - startedAt).toBeLessThan(6_000);
  });

  it('[TX-10] never writes MULTI before WATCH was answered, not even without reads', async () => {
    const seenAt: Record<string, number> = {};
    const note = ({ name }: RedisCommand): boolean => {
      seenAt[name] = performance.now();
      return name === 'WATCH';
    };
    proxy.delay({ match: note, replyMs: 200, times: Infinity });
    await transactions.run(['k'], (tx) => void tx.write.incr('k'));
    expect(await redis.client.get('k')).toBe('1');
    // Timers keep to whole milliseconds.
    expect(seenAt['MULTI']! - seenAt['WATCH']!).toBeGreaterThan(198);
  });

  it('[TX-10] sets its marker before WATCH, and again when it may not outlive the transaction', async () => {
    const first = await countCommands(redis.client, () => increment());
    const second = await countCommands(redis.client, () => increment());
    // The caller's, the marker twice and the deadline key; then the caller's and the marker.
    expect([first.set, second.set]).toEqual([4, 2]);
    const longer = await countCommands(redis.client, () => increment({ timeoutMs: 3_600_000 }));
    expect(longer.set).toBe(4);
    const [marker, ...others] = await markers();
    expect(others).toEqual([]);
    expect(await redis.client.pttl(marker!)).toBeGreaterThan(3_600_000);
  });

  it('[TX-10] starts again when its marker expires meanwhile', async () => {
    await increment();
    await transactions.run(['k'], async (tx) => {
      await tx.read.get('k');
      const [marker] = await markers();
      if (tx.attempt === 1) {
        await redis.client.pexpire(marker!, 1);
        while (await redis.client.exists(marker!)) await new Promise((resolve) => setTimeout(resolve, 2));
      }
      tx.write.set('k', `attempt ${tx.attempt}`);
    });
    expect(await redis.client.get('k')).toBe('attempt 2');
  });

  it('[TX-10] keeps one marker for each connection, with a time to live, whatever the number of transactions', async () => {
    for (let i = 0; i < 50; i++) await increment();
    const [marker, ...others] = await markers();
    expect(others).toEqual([]);
    expect(await redis.client.pttl(marker!)).toBeGreaterThan(0);
  });
});
