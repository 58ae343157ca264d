import {
  AtomicRedis,
  AtomicRedisEvents,
  IllegalTransactionStateError,
  InvalidArgumentError,
  LeaseLostError,
  OutcomeUnknownError,
  type IdempotentRun,
  type TransactionService,
} from 'nestjs-atomic-redis';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { keepStepScript } from '../../lib/idempotency/steps/keep-step.script.js';
import { countCommands } from '../support/command-stats.js';
import { stateOf } from '../support/idempotency-record.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, on, useInstances } from './support.js';

const boom = (): never => {
  throw new Error('boom');
};

describe('a step that its transaction commits', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));
  const start = async (url = redis.server.url) => {
    const instance = await instances.start({ connection: url });
    const transactions: TransactionService = instance.module.get(AtomicRedis).transactions;
    return { ...instance, transactions };
  };
  /** Takes one from the stock by a step, and fails after it where told. */
  const reserve =
    (transactions: TransactionService, after: () => unknown = () => undefined) =>
    (run: IdempotentRun): Promise<number> =>
      run.step('reserve', async () => {
        const left = await transactions.run(
          ['stock'],
          async (tx) => {
            const stock = Number(await tx.read.get('stock')) - 1;
            tx.write.set('stock', stock);
            return stock;
          },
          { completesStep: (stock) => stock },
        );
        await after();
        return left;
      });

  it('[ID-57] has its effects once and its result in later attempts, even if its callback failed after the commit', async () => {
    const { idempotency, transactions } = await start();
    await redis.client.set('stock', 10);
    await expect(idempotency.run('k', reserve(transactions, boom))).rejects.toThrow('boom');
    expect(await idempotency.run('k', reserve(transactions))).toBe(9);
    expect(await redis.client.get('stock')).toBe('9');
  });

  it('[ID-57] holds the key if Redis refused to store the result inside EXEC', async () => {
    const { idempotency, transactions } = await start();
    await redis.client.set('stock', 10);
    const damaged = idempotency.run('k', async (run) => {
      await run.step('first', () => 1);
      const [steps] = await redis.client.keys('atomic:steps:*');
      await redis.client.multi().del(steps!).set(steps!, 'of another type').exec();
      return await reserve(transactions)(run);
    });
    await expect(damaged).rejects.toMatchObject({
      code: 'PARTIAL_COMMIT',
      completionFailed: true,
      index: -1,
    });
    expect(await redis.client.get('stock')).toBe('9');
    await expect(idempotency.run('k', reserve(transactions))).rejects.toMatchObject({
      code: 'IDEMPOTENCY_OUTCOME_UNKNOWN',
    });
    expect(await redis.client.get('stock')).toBe('9');
  });

  it('[ID-57] takes no round trip of its own unless it is the first of its run', async () => {
    const { idempotency, transactions } = await start();
    await redis.client.set('stock', 10);
    const two = async (run: IdempotentRun): Promise<void> => {
      await run.step('first', () => 1);
      await reserve(transactions)(run);
    };
    await idempotency.run('warm-up', two);
    const counts = await countCommands(redis.client, () => idempotency.run('k', two));
    expect(counts).toMatchObject({ evalsha: 3, exec: 1, hset: 2 });
  });

  it('[ID-57] changes nothing for a run that has lost its key', async () => {
    const { idempotency, transactions } = await start();
    await redis.client.set('stock', 10);
    const late = idempotency.run('k', async (run) => {
      await run.step('first', () => 1);
      for (const key of await redis.client.keys('atomic:idempotency:*')) await redis.client.del(key);
      expect(await idempotency.run('k', () => 'of the new run')).toBe('of the new run');
      return await reserve(transactions)(run).catch((error: unknown) => error);
    });
    expect(await late).toBeInstanceOf(LeaseLostError);
    expect(await redis.client.get('stock')).toBe('10');
    expect(await idempotency.run('k', boom)).toBe('of the new run');
  });

  it('[ID-57] has its effects once when the reply to EXEC, or to its opening, is lost', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { idempotency, transactions } = await start(proxy.url);
    await redis.client.set('stock', 10);
    await idempotency.run('warm-up', reserve(transactions));
    const lost = [
      proxy.loseReplies({ match: ({ name }) => name === 'EXEC' }),
      proxy.loseReplies(on(keepStepScript)),
    ];
    expect(await idempotency.run('k', reserve(transactions), { timeoutMs: 10_000 })).toBe(8);
    expect(lost.map(({ count }) => count)).toEqual([1, 1]);
    expect(await redis.client.get('stock')).toBe('8');
    await proxy.stop();
  });

  it('[ID-57] has its effects once when the same run repeats it without knowing if it was committed', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { idempotency, transactions } = await start(proxy.url);
    await redis.client.set('stock', 10);
    await idempotency.run('warm-up', reserve(transactions));
    const lost = proxy.blackHole({ match: ({ name }) => name === 'EXEC', deliver: true });
    const take = (timeoutMs = 10_000): Promise<number> =>
      transactions.run(
        ['stock'],
        async (tx) => {
          const left = Number(await tx.read.get('stock')) - 1;
          tx.write.set('stock', left);
          return left;
        },
        { completesStep: (left) => left, timeoutMs },
      );
    const result = await idempotency.run(
      'k',
      async (run) => {
        const failing = run.step('reserve', async () => {
          const taking = take(1_500);
          await lost.triggered;
          proxy.refuseConnections(true);
          proxy.blackHoleNow();
          await expect(taking).rejects.toThrow(OutcomeUnknownError);
          proxy.refuseConnections(false);
          proxy.reset();
          await expect(take()).rejects.toThrow(IllegalTransactionStateError);
          return await taking;
        });
        await expect(failing).rejects.toThrow(OutcomeUnknownError);
        return await run.step('reserve', () => take());
      },
      { timeoutMs: 20_000 },
    );
    expect(result).toBe(8);
    expect(await redis.client.get('stock')).toBe('8');
    await proxy.stop();
  });

  it.each([new Error('plain'), new InvalidArgumentError('a', 'b', 1)])(
    '[ID-57] has its effects once when onReplies throws after the commit: %p',
    async (error) => {
      const { idempotency, transactions } = await start();
      const take = (onReplies?: () => void): Promise<number> =>
        transactions.run(['stock'], (tx) => (tx.write.incr('stock'), 1), {
          completesStep: (value) => value,
          ...(onReplies && { onReplies }),
        });
      const result = await idempotency.run('k', async (run) => {
        const throwing = (): never => {
          throw error;
        };
        await expect(run.step('reserve', () => take(throwing))).rejects.toBe(error);
        return await run.step('reserve', () => take());
      });
      expect(result).toBe(1);
      expect(await redis.client.get('stock')).toBe('1');
    },
  );

  it('[ID-57] waits for its transaction even if its callback does not, and fails with it', async () => {
    const { idempotency, transactions } = await start();
    const commit = (body: () => unknown, completes: 'completesRun' | 'completesStep'): Promise<void> =>
      transactions.run(
        ['stock'],
        async (tx) => {
          await tx.read.get('stock');
          await body();
          tx.write.incr('stock');
        },
        { [completes]: () => 'committed' },
      );
    const careless = (body: () => unknown) => (run: IdempotentRun) =>
      run.step('reserve', () => {
        void commit(body, 'completesStep');
        return 'of the work';
      });
    await expect(idempotency.run('k', careless(boom))).rejects.toThrow('boom');
    expect(await redis.client.exists('stock')).toBe(0);
    expect(
      await idempotency.run(
        'k',
        careless(() => undefined),
      ),
    ).toBe('committed');
    expect(await redis.client.get('stock')).toBe('1');

    const whole = (body: () => unknown) => (): string => {
      void commit(body, 'completesRun');
      return 'of the method';
    };
    await expect(idempotency.run('l', whole(boom))).rejects.toThrow('boom');
    expect(
      await idempotency.run(
        'l',
        whole(() => undefined),
      ),
    ).toBe('of the method');
    expect(await redis.client.get('stock')).toBe('2');
  });

  /** The ways of a transaction to fail before the work around it has ended. */
  type Completes = 'completesRun' | 'completesStep';
  const early: [string, (transactions: TransactionService, completes: Completes) => Promise<unknown>][] = [
    ['threw', (transactions, completes) => transactions.run(['stock'], boom, { [completes]: () => 1 })],
    ['was refused', (transactions, completes) => transactions.run([], boom, { [completes]: () => 1 })],
    [
      'has nothing to commit here',
      (transactions, completes) =>
        transactions.run(['stock'], () => 1, {
          [completes === 'completesRun' ? 'completesStep' : 'completesRun']: () => 1,
        }),
    ],
  ];
  it.each(early)('[ID-57] fails with a transaction that %s before its callback ended', async (_, begin) => {
    const { idempotency, transactions, module } = await start();
    let failed = 0;
    module.get(AtomicRedisEvents).subscribe(({ type }) => void (type === 'transactions.run' && failed++));
    /** Nobody asks for its result before it has failed. */
    const left = async (completes: Completes): Promise<Promise<unknown>[]> => {
      const [before, transaction] = [failed, begin(transactions, completes)];
      await waitFor('the failure', () => failed > before);
      return [transaction];
    };
    const step =
      (work: () => Promise<unknown>) =>
      (run: IdempotentRun): Promise<unknown> =>
        run.step('reserve', async () => (await work(), 'of the work'));
    const careless = (completes: Completes) => async (): Promise<string> => (await left(completes), 'done');
    await expect(idempotency.run('k', step(careless('completesStep')))).rejects.toBeInstanceOf(Error);
    await expect(idempotency.run('l', careless('completesRun'))).rejects.toBeInstanceOf(Error);
    const again = jest.fn(() => Promise.resolve());
    await idempotency.run('k', step(again));
    await idempotency.run('l', again);
    expect(again).toHaveBeenCalledTimes(2);

    const asking: ((transaction: Promise<unknown>) => Promise<unknown>)[] = [
      async (transaction) => {
        try {
          await transaction;
        } catch {
          return undefined;
        }
        throw new Error('it did not fail');
      },
      (transaction) => transaction.catch(() => undefined),
      (transaction) => Promise.all([transaction, Promise.resolve()]).catch(() => undefined),
      (transaction) => Promise.allSettled([transaction, Promise.resolve()]),
      (transaction) =>
        (async () => await transaction)()
          .finally(() => undefined)
          .catch(() => undefined),
    ];
    for (const [i, ask] of asking.entries()) {
      const late = async (): Promise<unknown> => await ask((await left('completesStep'))[0]!);
      const atOnce = (): Promise<unknown> => ask(begin(transactions, 'completesStep'));
      expect(await idempotency.run(`late ${i}`, step(late))).toBe('of the work');
      expect(await idempotency.run(`at once ${i}`, step(atOnce))).toBe('of the work');
    }
  });

  it('[ID-57] stays committed when the method throws before the transaction that completes the run has ended', async () => {
    const { idempotency, transactions } = await start();
    const goOn = gate();
    const begun = gate();
    const failing = idempotency.run('k', () => {
      void transactions.run(
        ['stock'],
        async (tx) => {
          begun.resolve();
          await goOn.promise;
          tx.write.incr('stock');
        },
        { completesRun: () => 'committed' },
      );
      return begun.promise.then(boom);
    });
    failing.catch(() => undefined);
    await begun.promise;
    // Nothing but the end of the transaction lets the run end.
    const other = await Promise.race([failing.catch(() => 'over'), redis.client.ping()]);
    goOn.resolve();
    expect(other).toBe('PONG');
    await expect(failing).rejects.toThrow('boom');
    expect(await redis.client.get('stock')).toBe('1');
    expect(await idempotency.run('k', boom)).toBe('committed');
  });

  it('[ID-57] is committed by no transaction that begins after it', async () => {
    const { idempotency, transactions } = await start();
    const ended = gate();
    let late: Promise<unknown> | undefined;
    const result = await idempotency.run('k', async (run) => {
      const value = await run.step('reserve', () => {
        late = ended.promise.then(() =>
          transactions.run(['stock'], (tx) => (tx.write.incr('stock'), 2), { completesStep: (two) => two }),
        );
        return 1;
      });
      ended.resolve();
      await expect(late).rejects.toThrow(IllegalTransactionStateError);
      return value;
    });
    expect(result).toBe(1);
    expect(await redis.client.exists('stock')).toBe(0);
  });

  it('[ID-57] is committed by only one transaction at a time', async () => {
    const { idempotency, transactions } = await start();
    const commit = (i: number): Promise<number> =>
      transactions.run([`key ${i}`], (tx) => (tx.write.incr('count'), i), {
        completesStep: (value) => value,
      });
    // Opens two connections, so that both begin at once.
    await Promise.all([1, 2].map((i) => transactions.run([`key ${i}`], (tx) => void tx.write.set('a', i))));
    const result = await idempotency.run('k', (run) =>
      run.step('x', async () => {
        const [one, other] = await Promise.allSettled([commit(1), commit(2)]);
        expect(one).toMatchObject({ status: 'fulfilled', value: 1 });
        expect(other).toMatchObject({ reason: expect.any(IllegalTransactionStateError) });
        return 0;
      }),
    );
    expect(result).toBe(1);
    expect(await redis.client.get('count')).toBe('1');
  });

  it('[ID-57] refuses completesRun, which would end the run and its steps by one EXEC', async () => {
    const { idempotency, transactions } = await start();
    const bare = transactions.run(['a'], () => 1, { completesStep: () => 1 });
    await expect(bare).rejects.toThrow(IllegalTransactionStateError);
    const result = await idempotency.run('k', async (run) => {
      const inside = run.step('x', () => transactions.run(['a'], () => 1, { completesRun: () => 1 }));
      await expect(inside).rejects.toThrow(IllegalTransactionStateError);
      const outside = transactions.run(['a'], () => 1, { completesStep: () => 1 });
      await expect(outside).rejects.toThrow(IllegalTransactionStateError);
      const both = run.step('both', () =>
        transactions.run(['a'], () => 1, { completesStep: () => 1, completesRun: () => 1 }),
      );
      await expect(both).rejects.toThrow(IllegalTransactionStateError);
      const twice = run.step('twice', async () => {
        await transactions.run(['a'], () => 1, { completesStep: () => 1 });
        await transactions.run(['a'], () => 1, { completesStep: () => 2 });
      });
      await expect(twice).rejects.toThrow(/works once/);
      expect(await run.step('twice', boom).catch(() => 'asked before')).toBe(1);
      await transactions.run(['a'], (tx) => void tx.write.set('a', 1), { completesRun: () => 'committed' });
      const [record] = await redis.client.keys('atomic:idempotency:*');
      expect(await stateOf(redis.client, record!)).toBe('committed');
      expect(await redis.client.keys('atomic:steps:*')).toEqual([]);
      await expect(run.step('late', boom)).rejects.toMatchObject({ code: 'ILLEGAL_RUN_STATE' });
      return 'done';
    });
    expect(result).toBe('done');
    await waitFor('the result', async () => (await idempotency.run('k', boom)) === 'done');
  });
});
