import type { TestingModule } from '@nestjs/testing';
import { Redis } from 'ioredis';
import { TransactionService } from 'nestjs-atomic-redis';
import { mkdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { useApp } from '../support/app.js';
import { loadingOf } from '../support/loading.js';
import { useRedis } from '../support/redis.js';
import { tellRefused, told, WAYS, type Refusal, type Way } from '../support/refused-transactions.js';
import { waitFor } from '../support/wait-for.js';

describe('a refusal of Redis, for transactions that share an EXEC', () => {
  const boot = useApp();
  const redis = useRedis({ args: ['--enable-debug-command', 'yes'] });
  let app: TestingModule;
  let transactions: TransactionService;

  beforeAll(async () => {
    await redis.client.acl('SETUSER', 'app', 'on', '>secret', '+@all', '~*', '&*');
    const { host, port } = redis.server;
    app = await boot({ connection: `redis://app:secret@${host}:${port}` });
    transactions = app.get(TransactionService);
  });

  const config = (name: string, value: string) => (): Promise<unknown> =>
    redis.client.config('SET', name, value);
  const acl = (rule: string) => (): Promise<unknown> => redis.client.acl('SETUSER', 'app', rule);

  const isBusy = (): Promise<boolean> =>
    redis.client.get('k').then(
      () => false,
      () => true,
    );
  const busy = async (): Promise<void> => {
    await redis.client.config('SET', 'busy-reply-threshold', '1');
    const other = new Redis(redis.server.url);
    other
      .eval('while true do end', 0)
      .catch(() => undefined)
      .finally(() => other.disconnect());
    await waitFor('the server to be busy', isBusy);
  };
  const killScript = async (): Promise<void> => {
    await redis.client.script('KILL');
    await waitFor('the script to end', async () => !(await isBusy()));
  };
  const { startLoading, endLoading } = loadingOf(() => redis.server.url);
  const dump = (): string => join(redis.server.directory, 'dump.rdb');
  const misconf = async (): Promise<void> => {
    // The file that is written cannot take the place of a directory.
    await rm(dump(), { force: true });
    await mkdir(dump());
    await redis.client.config('SET', 'save', '100000 1000000');
    await redis.client.bgsave();
    // The status alone may be that of the save before.
    await waitFor('the save to fail', async () => {
      const info = await redis.client.info('persistence');
      return info.includes('rdb_bgsave_in_progress:0') && info.includes('rdb_last_bgsave_status:err');
    });
  };

  const refusals: Record<string, Refusal> = {
    OOM: { begin: config('maxmemory', '1'), end: config('maxmemory', '0') },
    NOPERM: { begin: acl('-set'), end: acl('+set') },
    READONLY: {
      begin: () => redis.client.replicaof('127.0.0.1', 1),
      end: () => redis.client.replicaof('NO', 'ONE'),
    },
    'READONLY that passes': {
      begin: () => redis.client.replicaof('127.0.0.1', 1),
      end: () => redis.client.replicaof('NO', 'ONE'),
      passesAfterMs: 200,
    },
    NOREPLICAS: { begin: config('min-replicas-to-write', '1'), end: config('min-replicas-to-write', '0') },
    'NOREPLICAS that passes': {
      begin: config('min-replicas-to-write', '1'),
      end: config('min-replicas-to-write', '0'),
      passesAfterMs: 200,
    },
    BUSY: { begin: busy, end: killScript },
    'BUSY that passes': { begin: busy, end: killScript, passesAfterMs: 200 },
    LOADING: { begin: startLoading, end: endLoading },
    'LOADING that passes': { begin: startLoading, end: endLoading, passesAfterMs: 200 },
    MISCONF: {
      begin: misconf,
      end: async () => {
        await rmdir(dump());
        await redis.client.config('SET', 'save', '');
      },
    },
  };

  /** Chance decides which of them comes first at the deadline. */
  const outOfTime: readonly unknown[] = ['REDIS_UNAVAILABLE', 'TRANSACTION_TIMEOUT'];

  const tell = async (way: Way, refusal: Refusal): Promise<object[]> => {
    const answers = await tellRefused({ transactions, client: redis.client, key: 'k' }, way, refusal);
    return answers.map((one) =>
      'code' in one && outOfTime.includes(one.code) ? { ...one, code: 'OUT_OF_TIME' } : one,
    );
  };

  /** Refusals that are waited for until the deadline. */
  const stays = new Set(['READONLY', 'NOREPLICAS', 'BUSY', 'LOADING']);

  it.each(Object.keys(refusals))('[TX-15] %s fails each like a single transaction', async (name) => {
    const refusal = refusals[name]!;
    const [alone] = await tell('alone', refusal);
    expect(await tell('together', refusal)).toEqual(Array(WAYS.together).fill(alone));
    // To the transaction that others have joined.
    expect(await tell('joined', refusal)).toEqual([alone]);
    if (name.endsWith('that passes')) expect(alone).toEqual({ applied: true });
    else expect(alone).toMatchObject({ reply: stays.has(name) ? undefined : name, outcome: 'not-applied' });
  });

  it('[TX-15] NOPERM on the key of one fails only that one', async () => {
    await redis.client.acl('SETUSER', 'app', 'resetkeys', '~k', '~atomic:*');
    await redis.client.set('k', 0);
    const pay = (i: number): Promise<unknown> =>
      transactions.run(['k'], async (tx) => {
        const value = Number(await tx.read.get('k'));
        if (i === 2) tx.write.set('forbidden', 1);
        tx.write.set('k', value + 1);
      });
    const results = (await Promise.allSettled([0, 1, 2, 3].map(pay))).map(told);
    await acl('allkeys')();
    expect(results.map((one) => 'applied' in one)).toEqual([true, true, false, true]);
    expect(results[2]).toMatchObject({ code: 'REDIS_REPLY', reply: 'NOPERM', outcome: 'not-applied' });
    expect(await redis.client.mget('k', 'forbidden')).toEqual(['3', null]);
  });

  it('[TX-15] WRONGTYPE inside the EXEC fails only the one with that command', async () => {
    await redis.client.set('k', 0);
    await redis.client.rpush('list', 1);
    const pay = (i: number): Promise<unknown> =>
      transactions.run(['k'], async (tx) => {
        const value = Number(await tx.read.get('k'));
        tx.write.set('k', value + 1);
        if (i === 1) tx.write.incr('list');
      });
    const results = (await Promise.allSettled([0, 1, 2].map(pay))).map(told);
    expect(results).toEqual([
      { applied: true },
      { code: 'PARTIAL_COMMIT', reply: undefined, outcome: 'applied', retryable: false },
      { applied: true },
    ]);
    expect(await redis.client.get('k')).toBe('3');
  });
});
