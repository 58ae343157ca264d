import { mkdir, rm } from 'node:fs/promises';
import { Redis } from 'ioredis';
import { countCommands } from '../support/command-stats.js';
import { loadingOf } from '../support/loading.js';
import {
  callAll,
  expectSameForAll,
  startOperationApps,
  type Answers,
  type OperationApps,
} from '../support/operation-rounds.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { answerOf, during, OPERATIONS, REFUSED, refusedInTime, TIME_MS } from './scripted-operations.js';

const USER = 'app';

/** The first word of what Redis refuses a command with. */
const refusalOf = (command: Promise<unknown>): Promise<string | undefined> =>
  command.then(
    () => undefined,
    (error: Error) => error.message.split(' ')[0],
  );

describe('calls that share an EVALSHA', () => {
  const redis = useRedis({ args: ['--save', '3600 1', '--enable-debug-command', 'yes'] });
  let apps: OperationApps;

  const allowUser = async (): Promise<void> => {
    const keys = ['~ok:*', '~atomic:*'];
    await redis.client.call('ACL', 'SETUSER', USER, 'reset', 'on', '>pw', '+@all', '&*', ...keys);
  };

  beforeAll(async () => {
    await allowUser();
    apps = await startOperationApps(redis.server.url.replace('//', `//${USER}:pw@`));
  });

  beforeEach(allowUser);

  afterAll(() => apps?.close());

  /** Makes `many` calls of each operation at once, and tells what each came to. */
  const round = (
    many: number,
    timeoutMs: number,
    refuse: () => Promise<unknown>,
    keyOf: (i: number) => string = () => 'ok',
  ): Promise<Answers> =>
    callAll(
      apps.all.filter(([, { ownKeys }]) => !ownKeys || keyOf(1) === 'ok'),
      {
        timeoutMs,
        refuse,
        keysOf: (name) => Array.from({ length: many }, (_, i) => `${keyOf(i)}:${name}:${many}:${i}`),
      },
    );

  interface Refusing {
    begin(): Promise<unknown>;
    end(): Promise<unknown>;
  }
  const config = (name: string, refused: string, usual: string): Refusing => ({
    begin: () => redis.client.config('SET', name, refused),
    end: () => redis.client.config('SET', name, usual),
  });
  const admin = (): Redis => new Redis(redis.server.url);

  const passing: Readonly<Record<string, () => Refusing>> = {
    READONLY: () => ({
      begin: () => redis.client.call('REPLICAOF', '127.0.0.1', '1'),
      end: () => redis.client.call('REPLICAOF', 'NO', 'ONE'),
    }),
    NOREPLICAS: () => config('min-replicas-to-write', '9', '0'),
    LOADING: () => {
      const { startLoading, endLoading } = loadingOf(() => redis.server.url);
      return { begin: startLoading, end: endLoading };
    },
    BUSY: () => {
      const client = admin();
      let script: Promise<unknown> | undefined;
      return {
        begin: async () => {
          await redis.client.config('SET', 'busy-reply-threshold', '20');
          script = client.eval('while true do end', 0).catch(() => undefined);
          await waitFor('the server is busy', async () => (await refusalOf(redis.client.ping())) === 'BUSY');
        },
        end: async () => {
          await redis.client.script('KILL');
          await script;
          client.disconnect();
        },
      };
    },
  };

  /** Answered by a replica, up to the moment at which the library notices that it is one. */
  const READS = [
    'auditedHashes.history',
    'counters.get',
    'reservations.list',
    'transfers.pending',
    'idempotency.inspect',
    'queues.counts',
  ];
  const withoutReads = (answers: Answers): Answers =>
    Object.fromEntries(Object.entries(answers).filter(([name]) => !READS.includes(name)));

  it.each(Object.entries(passing))(
    '[SC-7] refused with %s until their time-out, each end like a single call',
    async (reply, refusing) => {
      const compared = (answers: Answers) =>
        refusedInTime(reply === 'READONLY' ? withoutReads(answers) : answers);
      const { begin, end } = refusing();
      const alone = await during(end, () => round(1, TIME_MS, begin));
      const again = refusing();
      const together = await during(
        () => again.end(),
        () => round(3, TIME_MS, () => again.begin()),
      );
      expectSameForAll(compared(alone), compared(together));
      const changes = Object.values(refusedInTime(alone))
        .flat()
        .filter((answer) => answer !== 'done');
      expect(changes.length).toBeGreaterThan(15);
      for (const answer of changes) expect(answer).toEqual(REFUSED);
    },
  );

  it.each(Object.entries(passing))(
    '[SC-7] refused with %s for a moment run afterwards, like single calls',
    async (_, refusing) => {
      const { begin, end } = refusing();
      const lifted = async (): Promise<void> => {
        await begin();
        setTimeout(() => void end(), 150);
      };
      const together = await round(3, 20_000, lifted);
      const done = Object.keys(together).map((name) => [name, ['done', 'done', 'done']]);
      expect(together).toEqual(Object.fromEntries(done));
    },
  );

  const lasting: Readonly<Record<string, Refusing>> = {
    OOM: {
      begin: () => redis.client.config('SET', 'maxmemory', '1'),
      end: () => redis.client.config('SET', 'maxmemory', '0'),
    },
    MISCONF: {
      begin: async () => {
        await rm(redis.server.directory, { recursive: true });
        await redis.client.bgsave().catch(() => undefined);
        await waitFor('the save has failed', async () =>
          (await redis.client.info('persistence')).includes('rdb_last_bgsave_status:err'),
        );
        await redis.client.config('SET', 'stop-writes-on-bgsave-error', 'yes');
      },
      end: async () => {
        await redis.client.config('SET', 'stop-writes-on-bgsave-error', 'no');
        await mkdir(redis.server.directory, { recursive: true });
      },
    },
  };

  it.each(Object.entries(lasting))(
    '[SC-7] refused with %s each get the error of a single call',
    async (reply, { begin, end }) => {
      const alone = await during(end, () => round(1, TIME_MS, begin));
      const together = await during(end, () => round(3, TIME_MS, begin));
      expectSameForAll(alone, together);
      expect(alone['values.compareAndSet']).toEqual([
        { code: 'REDIS_REPLY', reply, outcome: 'not-applied', retryable: true },
      ]);
    },
  );

  it('[SC-7] get NOPERM for their own keys, and not for those of others', async () => {
    const seeded = (i: number): string => (i === 1 ? 'no' : 'ok');
    const allowed = (rule: string) => redis.client.call('ACL', 'SETUSER', USER, rule);
    await allowed('~no:*');
    const forbid = async (): Promise<void> => {
      await redis.client.call('ACL', 'SETUSER', USER, 'resetkeys', '~ok:*', '~atomic:*');
    };
    const together = await round(3, TIME_MS, forbid, seeded);
    const refused = { code: 'REDIS_REPLY', reply: 'NOPERM', outcome: 'not-applied', retryable: false };
    for (const [name, answers] of Object.entries(together))
      expect([name, answers]).toEqual([name, ['done', refused, 'done']]);
    expect(Object.keys(together).length).toBeGreaterThan(20);
  });

  it('[SC-7] on a key of another type each get the error of a single call, and the others run', async () => {
    const ofAnotherType = (which: RegExp) => async (): Promise<void> => {
      for (const key of (await redis.client.keys('ok:*')).filter((one) => which.test(one)))
        await redis.client.del(key);
      for (const [name, { ownKeys }] of Object.entries(OPERATIONS))
        for (const key of [`ok:${name}:1:0`, `ok:${name}:3:1`])
          if (!ownKeys && which.test(key)) await redis.client.zadd(key, 1, 'member');
    };
    const alone = await round(1, TIME_MS, ofAnotherType(/:1:0$/));
    const together = await round(3, TIME_MS, ofAnotherType(/:3:1$/));
    const expected = Object.entries(alone).map(([name, [answer]]) => [name, ['done', answer, 'done']]);
    expect(together).toEqual(Object.fromEntries(expected));
    expect(
      Object.values(alone)
        .flat()
        .filter((answer) => answer !== 'done').length,
    ).toBeGreaterThan(12);
  });

  it('[SC-7] of counters with less time than the rest of their batch are known not to be applied', async () => {
    const [, , { counters }] = apps.all.find(([name]) => name === 'counters.add')!;
    await counters.add('ok:c', 1);
    await redis.client.config('SET', 'min-replicas-to-write', '9');
    const patient = counters.add('ok:c', 10, { timeoutMs: 60_000 });
    const times = Array.from({ length: 20 }, (_, i) => 150 + 50 * i);
    const served = () => redis.client.config('SET', 'min-replicas-to-write', '0');
    const hurried = await during(served, () =>
      Promise.all(times.map((timeoutMs) => answerOf(counters.add('ok:c', 100, { timeoutMs })))),
    );
    expect(refusedInTime({ hurried })).toEqual({ hurried: times.map(() => REFUSED) });
    expect((await patient).value).toBe(11);
  });

  it('[SC-7] really share it', async () => {
    const shared = ['values.compareAndSet', 'values.getAndSet', 'reservations.hold', 'lists.move'];
    for (const [name, { before, call }, atomic] of apps.all) {
      if (!shared.includes(name)) continue;
      const keys = [1, 2, 3].map((i) => `ok:shared:${name}:${i}`);
      await Promise.all(keys.map(async (key) => await before?.(atomic, key)));
      const counts = await countCommands(redis.client, () =>
        Promise.all(keys.map((key) => call(atomic, key, { timeoutMs: TIME_MS }, undefined as never))),
      );
      expect([name, counts.evalsha]).toEqual([name, 1]);
    }
  });
});
