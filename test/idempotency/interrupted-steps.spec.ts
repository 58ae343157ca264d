import { ConflictException } from '@nestjs/common';
import {
  IdempotencyInFlightError,
  IdempotencyResultUnavailableError,
  InvalidArgumentError,
  OutcomeUnknownError,
  ProbeFailedError,
  RedisUnavailableError,
  StepInterruptedError,
  type IdempotencyOptions,
  type RunStep,
  type IdempotencyService,
  type IdempotentRun,
  type StepOptions,
  type StepProbe,
} from 'nestjs-atomic-redis';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { keepStepScript } from '../../lib/idempotency/steps/keep-step.script.js';
import { StepStore } from '../../lib/idempotency/steps/step-store.js';
import { unmarkStepScript } from '../../lib/idempotency/steps/unmark-step.script.js';
import { countCommands } from '../support/command-stats.js';
import { damageRecord, readRecord, type RecordFields } from '../support/idempotency-record.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, on, useInstances } from './support.js';

const never = (): Promise<never> => new Promise(() => undefined);
const boom = (): never => {
  throw new Error('boom');
};

describe('a run that died', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));
  const recordOf = async (): Promise<string> => (await redis.client.keys('atomic:idempotency:*'))[0]!;
  const unknown = { code: 'IDEMPOTENCY_OUTCOME_UNKNOWN', outcome: 'unknown' };

  /** Begins a run that never ends, and ends its lease in Redis, as when its process was killed. */
  const die = async (
    work: (run: IdempotentRun, begun: () => void) => Promise<unknown>,
    options: IdempotencyOptions = {},
  ): Promise<void> => {
    const { idempotency } = await instances.start();
    const begun = gate();
    idempotency.run('k', (run) => work(run, begun.resolve), options).catch(() => undefined);
    await begun.promise;
    await damageRecord(redis.client, await recordOf(), { aliveUntil: '1' });
  };
  const dieIn = (name: string, options: StepOptions<string>): Promise<void> =>
    die((run, begun) => run.step(name, () => (begun(), never()), options));

  it('[ID-54] does not run again inside a step that holds when interrupted: its key is held', async () => {
    await dieIn('charge', { onInterrupted: 'hold' });
    const { idempotency, events } = await instances.start();
    const charge = jest.fn(() => 'charged');
    const second = idempotency.run('k', (run) => run.step('charge', charge, { onInterrupted: 'hold' }));
    await expect(second).rejects.toThrow(StepInterruptedError);
    await expect(second).rejects.toMatchObject({ step: 'charge', reason: 'begun', outcome: 'unknown' });
    await expect(idempotency.run('k', boom)).rejects.toMatchObject(unknown);
    expect(charge).not.toHaveBeenCalled();
    await waitFor('the events', () => events.length === 2);
    expect(events).toMatchObject([{ type: 'idempotency.run', outcome: 'held' }, { outcome: 'replayed' }]);
    expect(await redis.client.pttl(await recordOf())).toBeGreaterThan(6 * 86_400_000);
  });

  it('[ID-54] is held even if onError would release the key', async () => {
    await dieIn('charge', { onInterrupted: 'hold' });
    const { idempotency } = await instances.start();
    const work = (run: IdempotentRun) => run.step('charge', boom, { onInterrupted: 'hold' });
    await expect(idempotency.run('k', work, { onError: 'release' })).rejects.toThrow(StepInterruptedError);
    await waitFor(
      'the hold',
      async () => (await readRecord(redis.client, await recordOf()))?.state === 'done',
    );
    await expect(idempotency.run('k', boom)).rejects.toMatchObject({
      ...unknown,
      reason: 'step-interrupted',
    });
  });

  it.each<[string, StepOptions<string>['onInterrupted'], IdempotencyOptions]>([
    ['with a step', 'hold', {}],
    ['with onAbandoned', 'run', { onAbandoned: 'hold' }],
  ])(
    '[ID-54] [ID-55] is recognised as such even if Redis lost its record and it was renewed: %s',
    async (_, onInterrupted, options) => {
      const { idempotency } = await instances.start();
      const begun = gate();
      const work = async (run: IdempotentRun): Promise<never> => {
        if (onInterrupted === 'hold')
          await run.step('charge', () => (begun.resolve(), never()), { onInterrupted });
        begun.resolve();
        return await never();
      };
      const all = { operation: 'orders.create', leaseMs: 6_000, ...options };
      idempotency.run('k', work, all).catch(() => undefined);
      await begun.promise;
      const record = await recordOf();
      const before = await readRecord(redis.client, record);
      await redis.client.del(record, 'atomic:held:index');
      await waitFor('the renewal', async () => (await redis.client.exists(record)) === 1);
      expect(await readRecord(redis.client, record)).toMatchObject({
        state: 'lasting',
        trace: before!.trace,
      });
      await damageRecord(redis.client, record, { aliveUntil: '1' });
      const { keys } = await idempotency.held();
      expect(keys).toMatchObject([{ record, state: 'interrupted', operation: 'orders.create' }]);
      const again = idempotency.run(
        'k',
        (run) => run.step('charge', () => 'charged again', { onInterrupted: 'hold' }),
        all,
      );
      await expect(again).rejects.toMatchObject({ outcome: 'unknown' });
    },
  );

  it('[ID-50] repeats a step that does not hold when interrupted, with the same key', async () => {
    const keys: string[] = [];
    await die((run, begun) =>
      run
        .step('first', () => 1)
        .then(() => run.step('charge', ({ key }) => (keys.push(key), begun(), never()))),
    );
    const { idempotency } = await instances.start();
    await idempotency.run('k', async (run) => {
      expect(run.attempt).toBe(2);
      await run.step('first', boom);
      await run.step('charge', ({ key }) => void keys.push(key));
    });
    expect(keys).toEqual([keys[0], keys[0]]);
  });

  it('[ID-54] calls the probe of a step, which returns done, not done, or unknown', async () => {
    const { idempotency } = await instances.start();
    const options = (finding: unknown): StepOptions<string> => ({
      onInterrupted: async ({ key, signal }: Parameters<StepProbe>[0]) => {
        expect([key.length, signal.aborted]).toEqual([43, false]);
        return await (finding as Promise<'run'>);
      },
    });
    const resume = (finding: unknown, work = jest.fn(() => 'done again')) =>
      idempotency.run('k', (run) => run.step('charge', work, options(finding)));

    await dieIn('charge', options('run'));
    expect(await resume({ result: 'found' }, jest.fn(boom))).toBe('found');
    await redis.client.flushall();

    await dieIn('charge', options('run'));
    expect(await resume('run')).toBe('done again');
    await redis.client.flushall();

    await dieIn('charge', options('run'));
    await expect(resume('hold')).rejects.toThrow(StepInterruptedError);
    await expect(resume('run')).rejects.toMatchObject(unknown);
  });

  it.each<[string, StepOptions<string>['onInterrupted']]>([
    ['throws', boom],
    ['is too slow', never],
    ['returns an unknown result', () => 'perhaps' as 'run'],
  ])('[ID-54] stays interrupted when the probe %s, and probes again', async (_, probe) => {
    await dieIn('charge', { onInterrupted: 'hold' });
    const { idempotency } = await instances.start({ idempotency: { probeTimeoutMs: 100 } });
    const resume = (onInterrupted: StepOptions<string>['onInterrupted']) =>
      idempotency.run('k', (run) => run.step('charge', boom, { onInterrupted }));
    await expect(resume(probe)).rejects.toThrow(ProbeFailedError);
    await expect(resume(probe)).rejects.toMatchObject({ step: 'charge', retryable: true });
    expect(await resume(() => ({ result: 'found' }))).toBe('found');
  });

  const failures: [string, (service: IdempotencyService) => unknown][] = [
    ['of the application', boom],
    ['with a 4xx status', () => Promise.reject(new ConflictException())],
    ['of an inner call that did nothing', (service) => service.inspect('')],
    ['that was declared for another step', () => Promise.reject(new Error('other'))],
  ];
  it.each(failures)(
    '[ID-54] is held after a step whose callback failed in this attempt too, by an error %s',
    async (_, failing) => {
      const { idempotency } = await instances.start();
      const work = (run: IdempotentRun): Promise<unknown> =>
        run.step(
          'charge',
          async ({ didNothing }) => {
            didNothing(new Error('other'));
            await failing(idempotency);
          },
          { onInterrupted: 'hold' },
        );
      await expect(idempotency.run('k', work, { onError: 'release' })).rejects.toBeInstanceOf(Error);
      await expect(idempotency.run('k', boom)).rejects.toMatchObject({
        ...unknown,
        reason: 'step-interrupted',
      });
    },
  );

  it('[ID-54] calls the probe even after a failure, whatever the error says', async () => {
    const { idempotency } = await instances.start();
    const probe = jest.fn(() => ({ result: 'found' }));
    const failing = idempotency.run(
      'k',
      (run) => run.step('charge', () => idempotency.inspect(''), { onInterrupted: () => 'run' }),
      { onError: 'release' },
    );
    await expect(failing).rejects.toThrow(InvalidArgumentError);
    expect(await idempotency.run('k', (run) => run.step('charge', boom, { onInterrupted: probe }))).toBe(
      'found',
    );
    expect(probe).toHaveBeenCalledTimes(1);
  });

  it('[ID-54] repeats a step that reported itself as not done, even if the reply to that report was lost', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { idempotency } = await instances.start({ connection: proxy.url });
    const hold = { onInterrupted: 'hold' } as const;
    const refuse: Parameters<IdempotentRun['step']>[1] = (step) => {
      throw step.didNothing(new ConflictException());
    };
    await idempotency.run('warm-up', (run) => run.step('charge', refuse, hold)).catch(() => undefined);
    const lost = proxy.loseReplies(on(unmarkStepScript));
    const result = idempotency.run(
      'k',
      async (run) => {
        await expect(run.step('charge', refuse, hold)).rejects.toThrow(ConflictException);
        return await run.step('charge', () => 'charged', hold);
      },
      { timeoutMs: 10_000 },
    );
    expect(await result).toBe('charged');
    expect(lost.count).toBe(1);
    await proxy.stop();
  });

  it('[ID-54] ignores a late copy of a step’s begin that was taken back', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { idempotency } = await instances.start({
      connection: proxy.url,
      idempotency: { timeoutMs: 10_000 },
    });
    const hold = { onInterrupted: 'hold' } as const;
    const refuse = ({ didNothing }: RunStep) => Promise.reject(didNothing(new ConflictException()));
    await idempotency.run('warm-up', (run) => run.step('charge', refuse, hold)).catch(() => undefined);
    const fault = proxy.deliverLate(400, on(keepStepScript));
    const first = idempotency.run(
      'k',
      async (run) => {
        const refused = await run.step('charge', refuse, hold).catch((error: unknown) => error);
        expect(await fault.delivered).toBe(true);
        throw refused;
      },
      { onError: 'release' },
    );
    await expect(first).rejects.toThrow(ConflictException);
    expect(await idempotency.run('k', (run) => run.step('charge', () => 'charged', hold))).toBe('charged');
    await proxy.stop();
  });

  it('[ID-54] ignores a step’s begin that arrives after it was given up', async () => {
    const { idempotency } = await instances.start();
    const hold = { onInterrupted: 'hold' } as const;
    const { begin } = StepStore.prototype;
    const arrived = gate();
    const spy = jest.spyOn(StepStore.prototype, 'begin').mockImplementationOnce(async function (
      this: StepStore,
      ...args
    ) {
      // The connection is lost, Redis refuses the copy, and the first arrives later.
      setTimeout(() => void begin.apply(this, args).finally(arrived.resolve), 300);
      return await Promise.reject(new OutcomeUnknownError('not answered'));
    });
    const work = jest.fn(() => 'charged');
    const first = idempotency.run(
      'k',
      async (run) => {
        const failed = await run.step('charge', work, hold).catch((error: unknown) => error);
        await arrived.promise;
        throw failed;
      },
      { timeoutMs: 2_000, onError: 'release' },
    );
    await expect(first).rejects.toThrow(RedisUnavailableError);
    spy.mockRestore();
    expect(work).not.toHaveBeenCalled();
    expect(await idempotency.run('k', (run) => run.step('charge', work, hold))).toBe('charged');
  });

  const before = (trace: string): string => trace.replace(/^(\d+;\d+;\d;)1/, '$10');
  it.each<[string, (trace: string) => Partial<RecordFields>]>([
    ['of its claim', () => ({ state: 'running', trace: '', aliveUntil: '' })],
    ['without steps', (trace) => ({ trace: before(trace) })],
  ])('[ID-54] is held even if a failover took its record back to that %s', async (_, rolledBack) => {
    const { idempotency } = await instances.start();
    const begun = gate();
    const hold = { onInterrupted: 'hold' } as const;
    idempotency
      .run('k', (run) => run.step('charge', () => (begun.resolve(), never()), hold), { leaseMs: 6_000 })
      .catch(() => undefined);
    await begun.promise;
    const record = await recordOf();
    const { trace } = (await readRecord(redis.client, record))!;
    await redis.client.del('atomic:held:index', ...(await redis.client.keys('atomic:steps:*')));
    await damageRecord(redis.client, record, rolledBack(trace));
    await waitFor('the renewal', async () => (await readRecord(redis.client, record))!.trace === trace);
    expect(await readRecord(redis.client, record)).toMatchObject({ state: 'lasting' });
    expect(await redis.client.zscore('atomic:held:index', record)).not.toBeNull();
    expect(await redis.client.pttl(record)).toBeGreaterThan(600_000);
    const work = jest.fn();
    const { idempotency: other } = await instances.start();
    let outcome: unknown;
    // The first process goes on renewing its lease.
    await waitFor('a call while the lease has ended', async () => {
      await damageRecord(redis.client, record, { aliveUntil: '1' });
      outcome = await other
        .run('k', (run) => run.step('charge', work, hold))
        .catch((error: unknown) => error);
      return !(outcome instanceof IdempotencyInFlightError);
    });
    expect(outcome).toBeInstanceOf(StepInterruptedError);
    expect(work).not.toHaveBeenCalled();
  });

  it('[ID-54] keeps its trace when a renewal arrives that was sent before its first step', async () => {
    const { idempotency } = await instances.start();
    const begun = gate();
    const options = { onAbandoned: 'hold', leaseMs: 3_000 } as const;
    idempotency.run('k', () => (begun.resolve(), never()), options).catch(() => undefined);
    await begun.promise;
    const record = await recordOf();
    const { trace, aliveUntil } = (await readRecord(redis.client, record))!;
    const stepped = trace.replace(/^(\d+;\d+;\d;)0/, '$11');
    await damageRecord(redis.client, record, { trace: stepped });
    await waitFor(
      'the renewal',
      async () => (await readRecord(redis.client, record))!.aliveUntil !== aliveUntil,
    );
    expect(await readRecord(redis.client, record)).toMatchObject({ state: 'lasting', trace: stepped });
  });

  it('[ID-54] has not begun a step whose lease ended before the callback could start', async () => {
    const { idempotency } = await instances.start();
    const hold = { onInterrupted: 'hold' } as const;
    const work = jest.fn(() => 'charged');
    const { begin } = StepStore.prototype;
    const spy = jest.spyOn(StepStore.prototype, 'begin').mockImplementationOnce(async function (
      this: StepStore,
      ...args
    ) {
      const keeping = await begin.apply(this, args);
      // The process stands still for longer than the lease.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_100);
      return keeping;
    });
    const late = idempotency.run('k', (run) => run.step('charge', work, hold), { leaseMs: 1_000 });
    await expect(late).rejects.toMatchObject({ code: 'LEASE_LOST', outcome: 'not-applied' });
    spy.mockRestore();
    expect(work).not.toHaveBeenCalled();
    expect(await idempotency.run('k', (run) => run.step('charge', work, hold))).toBe('charged');
  });

  it('[ID-52] takes two round trips for a step that holds', async () => {
    const { idempotency } = await instances.start();
    const counts = await countCommands(redis.client, () =>
      idempotency.run('k', (run) => run.step('charge', () => 1, { onInterrupted: 'hold' })),
    );
    expect(counts).toMatchObject({ evalsha: 4 });
  });

  it('[ID-51] does not start a step that holds before Redis has confirmed its begin', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { idempotency } = await instances.start({ connection: proxy.url });
    await idempotency.run('warm-up', (run) => run.step('x', () => 1));
    const work = jest.fn();
    const began = idempotency.run(
      'k',
      async (run) => {
        proxy.refuseConnections(true);
        proxy.disconnectAll();
        try {
          await run.step('charge', work, { onInterrupted: 'hold' });
        } finally {
          proxy.refuseConnections(false);
        }
      },
      { timeoutMs: 500 },
    );
    await expect(began).rejects.toMatchObject({ outcome: 'not-applied', retryable: true });
    expect(work).not.toHaveBeenCalled();
    proxy.loseReplies(on(keepStepScript));
    await waitFor('the next attempt', () =>
      idempotency.run(
        'k',
        async (run) => (await run.step('charge', () => true, { onInterrupted: 'hold' })) && 'once',
      ),
    );
    await proxy.stop();
  });

  const abandoned = (options: IdempotencyOptions): Promise<void> =>
    die(async (_, begun) => (begun(), await never()), options);

  it('[ID-55] is held with onAbandoned hold, even without a step', async () => {
    const options = { onAbandoned: 'hold', operation: 'orders.create' } as const;
    await abandoned(options);
    const { idempotency } = await instances.start();
    const work = jest.fn();
    const held = { ...unknown, reason: 'abandoned' };
    await expect(idempotency.run('k', work, options)).rejects.toThrow(IdempotencyResultUnavailableError);
    await expect(idempotency.run('k', work, options)).rejects.toMatchObject(held);
    expect(work).not.toHaveBeenCalled();
  });

  it('[ID-55] is decided by the probe of onAbandoned', async () => {
    const { idempotency } = await instances.start();
    const probe = jest.fn();
    const options = { onAbandoned: probe, operation: 'o' } as IdempotencyOptions;
    const resume = (finding: unknown) => {
      probe.mockImplementationOnce(async ({ attempt, keyFor, signal }) => {
        expect([attempt, keyFor('x').length, signal.aborted]).toEqual([2, 43, false]);
        if (finding instanceof Error) throw finding;
        return await Promise.resolve(finding);
      });
      return idempotency.run('k', ({ attempt }) => `attempt ${attempt}`, options);
    };
    await abandoned(options);
    await expect(resume(new Error('away'))).rejects.toThrow(ProbeFailedError);
    expect(await resume('run')).toBe('attempt 2');
    await redis.client.flushall();
    await abandoned(options);
    expect(await resume({ result: 'found' })).toBe('found');
    expect(await idempotency.run('k', boom, options)).toBe('found');
    await redis.client.flushall();
    await abandoned(options);
    await expect(resume('hold')).rejects.toMatchObject({ ...unknown, reason: 'abandoned' });
    expect(probe).toHaveBeenCalledTimes(4);
  });

  it.each<[string, () => unknown]>([
    ['no response', () => ({ response: null })],
    ['a response without a status', () => ({ response: {} })],
    ['a status that is none', () => ({ response: { status: 1_000 } })],
    ['a body that JSON does not carry', () => ({ response: { status: 201, body: 10n } })],
    [
      'a header that HTTP does not carry',
      () => ({ response: { status: 201, headers: { location: '/é€' } } }),
    ],
    [
      'a result that throws when it is read',
      () => ({
        get result() {
          return boom();
        },
      }),
    ],
    ['nothing', () => undefined],
  ])('[ID-55] stays abandoned if the probe found %s, and the next call probes again', async (_, probe) => {
    const options = { onAbandoned: probe, operation: 'o' } as IdempotencyOptions;
    await abandoned(options);
    const { idempotency } = await instances.start();
    for (let i = 0; i < 2; i++)
      await expect(idempotency.run('k', boom, options)).rejects.toMatchObject({ code: 'PROBE_FAILED' });
    const found = idempotency.run('k', boom, { ...options, onAbandoned: () => ({ result: 'found' }) });
    expect(await found).toBe('found');
  });

  it('[ID-55] is done, without a result, if the probe found a response larger than maxResultBytes', async () => {
    const body = 'x'.repeat(200);
    const options = { onAbandoned: () => ({ response: { status: 201, body } }), operation: 'o' };
    await abandoned(options);
    const { idempotency } = await instances.start({ idempotency: { maxResultBytes: 100 } });
    const done = { code: 'IDEMPOTENCY_RESULT_UNAVAILABLE', outcome: 'applied' };
    await expect(idempotency.run('k', boom, options)).rejects.toMatchObject(done);
    await expect(idempotency.run('k', boom, options)).rejects.toMatchObject(done);
  });

  it('[ID-55] frees its key when it failed without a step, without an extra round trip', async () => {
    const { idempotency } = await instances.start();
    const options = { onAbandoned: 'hold', fingerprint: 'a' } as const;
    await idempotency.run('warm-up', () => 1, options);
    const counts = await countCommands(redis.client, () => idempotency.run('other', () => 1, options));
    expect(counts).toMatchObject({ evalsha: 2 });
    await expect(idempotency.run('k', boom, options)).rejects.toThrow('boom');
    expect(await redis.client.exists('atomic:held:index')).toBe(0);
    expect(await idempotency.run('k', () => 1, { ...options, fingerprint: 'b' })).toBe(1);
  });
});
