import type { TestingModule } from '@nestjs/testing';
import { Redis } from 'ioredis';
import {
  OutcomeUnknownError,
  PartialCommitError,
  RedisReplyError,
  TransactionService,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { Deadline } from '../../lib/runtime/deadline.js';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { ARMED, CommitMarker } from '../../lib/transactions/commit-marker.js';
import { Committer, type CommitResult } from '../../lib/transactions/commit.js';
import { DeadlineKey, lifetimeOf } from '../../lib/transactions/deadline-key.js';
import { resolveScript } from '../../lib/transactions/resolve.script.js';
import { TransactionConnection } from '../../lib/transactions/transaction-connection.js';
import { TransactionServer } from '../../lib/transactions/transaction-server.js';
import { useApp } from '../support/app.js';
import { holdRequest } from '../support/hold-request.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const on = (name: string) => ({ match: (command: RedisCommand) => command.name === name });
const onResolve = {
  match: ({ name, args }: RedisCommand) => name === 'EVALSHA' && args[0]?.toString() === resolveScript.sha,
};

/** The table in docs/connection-loss.md, row by row. */
describe('the outcome of an EXEC', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let transactions: TransactionService;

  beforeEach(async () => {
    await redis.client.acl('SETUSER', 'app', 'on', '>secret', '+@all', '~*', '&*');
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: `redis://app:secret@127.0.0.1:${proxy.port}`, shutdownTimeoutMs: 1_000 });
    transactions = app.get(TransactionService);
    await redis.client.set('k', 0);
    await transactions.run(['other'], (tx) => void tx.write.incr('other'));
  });

  afterEach(async () => {
    proxy.reset();
    await proxy.stop();
  });

  const attempts: number[] = [];
  const increment = (timeoutMs = 10_000, before: () => Promise<unknown> = async () => {}): Promise<void> => {
    attempts.length = 0;
    return transactions.run(
      ['k'],
      async (tx) => {
        attempts.push(tx.attempt);
        const value = Number(await tx.read.get('k'));
        if (attempts.length === 1) await before();
        tx.write.set('k', value + 1);
      },
      { timeoutMs, maxAttempts: 1 },
    );
  };
  const value = (): Promise<string | null> => redis.client.get('k');

  let lent: TransactionConnection;
  let isKept: boolean;
  /** An EXEC behind a WATCH of a deadline key with that time to live, once `meanwhile` is over. */
  const exec = async (ttlMs: number, meanwhile: (key: string) => Promise<unknown>): Promise<CommitResult> => {
    const connection = app.get(RedisConnection);
    const committer = new Committer(connection, new ScriptRunner(connection));
    const client = new Redis(redis.server.url);
    const server = new TransactionServer(() => Promise.resolve({ kind: 'fit' }), 0);
    const deadlineKey = new DeadlineKey(connection.keys);
    lent = new TransactionConnection(client, new CommitMarker(connection.keys), deadlineKey, server);
    const key = deadlineKey.keyIn(0);
    const deadline = Deadline.in(30_000);
    try {
      const sentAt = performance.now();
      await client.set(key, '', 'PX', ttlMs);
      await client.set(lent.marker.keyIn(0), ARMED);
      await client.watch('k', key, lent.marker.keyIn(0));
      const lifetime = lifetimeOf(sentAt, performance.now(), ttlMs);
      await meanwhile(key);
      const queued = [{ name: 'incr', args: ['k'] }];
      const sent = committer.send(lent, { slot: 0, timeoutMs: 10_000 }, queued, lifetime, false);
      return await committer.outcomeOf(sent, {
        queued,
        from: 0,
        accompanying: [],
        deadline,
        durability: undefined,
      });
    } finally {
      isKept = lent.isReady;
      client.disconnect();
    }
  };

  it('[TX-16] is not applied, and no conflict, if EXEC was refused and the deadline key had expired', async () => {
    const result = await exec(100, (key) =>
      waitFor('the end of the key', async () => (await redis.client.exists(key)) === 0),
    );
    expect(result).toEqual({ kind: 'too-late' });
    expect(await value()).toBe('0');
  });

  it('[TX-16] is a conflict if EXEC was refused and the deadline key was alive', async () => {
    expect(await exec(60_000, () => redis.client.set('k', 0))).toEqual({ kind: 'conflict' });
    expect(await value()).toBe('0');
    expect(await exec(60_000, async () => {})).toMatchObject({ kind: 'applied', replies: [1] });
  });

  it('[TX-16] is applied if the reply was lost and the marker holds this attempt', async () => {
    const lost = proxy.loseReplies(on('EXEC'));
    await increment();
    expect([lost.count, attempts, await value()]).toEqual([1, [1], '1']);
  });

  it('[TX-16] is not applied, now or later, if the reply was lost and the marker holds another value', async () => {
    const late = proxy.deliverLate(500, on('EXEC'));
    let runs = 0;
    // Nobody changes what it watches: nothing else keeps the late one from being applied.
    await transactions.run(['calm'], (tx) => {
      runs++;
      tx.write.rpush('list', runs);
    });
    await late.delivered;
    await redis.client.ping();
    expect([runs, await redis.client.lrange('list', 0, -1)]).toEqual([2, ['2']]);
  });

  it.each([
    ['is gone', (keys: string[]) => redis.client.del(...keys)],
    [
      'was found missing by an earlier check',
      (keys: string[]) => Promise.all(keys.map((key) => redis.client.set(key, 'lost'))),
    ],
  ])('[TX-16] is unknown if the reply was lost and the marker %s', async (_, change) => {
    proxy.deliverLate(300, on('EXEC'));
    const changed = holdRequest(proxy, onResolve, async () =>
      change(await redis.client.keys('atomic:transaction:*')),
    );
    await expect(increment()).rejects.toThrow(OutcomeUnknownError);
    await changed;
    expect(attempts.length).toBeLessThan(5);
  });

  it('[TX-16] is unknown if Redis is unreachable until the deadline, and nothing takes effect later', async () => {
    let failure: unknown;
    const running = increment(1_500).catch((error: unknown) => (failure = error));
    await holdRequest(proxy, on('EXEC'), async () => {
      redis.server.pause();
      proxy.resume();
      await running;
      redis.server.resume();
    });
    expect(failure).toBeInstanceOf(OutcomeUnknownError);
    expect(failure).toMatchObject({ outcome: 'unknown', retryable: false });
    // Earlier requests on the connection are done before this one.
    await transactions.run(['other'], (tx) => void tx.write.incr('other'));
    expect([attempts, await value()]).toEqual([[1], '0']);
  });

  const revoke = (command: string) => (): Promise<unknown> =>
    redis.client.acl('SETUSER', 'app', `-${command}`);

  it('[TX-17] is applied in part if MULTI was refused and the commands behind it ran', async () => {
    const running = increment(10_000, revoke('multi'));
    await expect(running).rejects.toThrow(PartialCommitError);
    await expect(running).rejects.toMatchObject({ replies: ['OK'], outcome: 'applied', retryable: false });
    expect([attempts, await value()]).toEqual([[1], '1']);
  });

  it('[TX-17] is unknown if MULTI was refused and the other replies are lost', async () => {
    // The answer to MULTI arrives, and no other.
    proxy.loseReplies({ match: ({ name, args }) => name === 'SET' && args[0]?.toString() === 'k' });
    await expect(increment(10_000, revoke('multi'))).rejects.toThrow(OutcomeUnknownError);
    expect([attempts, await value()]).toEqual([[1], '1']);
  });

  it('[TX-17] is not applied if the server refuses EXEC itself, and what it may have queued goes with the connection', async () => {
    const refusal = Object.assign(new Error('NOPERM no EXEC'), { name: 'ReplyError' });
    const running = exec(60_000, async () => {
      const send = lent.send.bind(lent);
      lent.send = (command) => (command.name === 'exec' ? Promise.reject(refusal) : send(command));
    });
    await expect(running).rejects.toMatchObject({ reply: 'NOPERM', outcome: 'not-applied' });
    expect([isKept, await value()]).toEqual([false, '0']);
  });

  it('[TX-17] is not applied if the command EXEC was refused', async () => {
    const running = increment(10_000, revoke('exec'));
    await expect(running).rejects.toThrow(RedisReplyError);
    await expect(running).rejects.toMatchObject({ outcome: 'not-applied', retryable: false });
    expect([attempts, await value()]).toEqual([[1], '0']);
  });
});
