import { setTimeout as sleep } from 'node:timers/promises';
import type { TestingModule } from '@nestjs/testing';
import { IdempotencyInFlightError, IdempotencyService } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import type { CallsReport, LeaseJob } from './lease.worker.js';
import { stateOf } from '../support/idempotency-record.js';

const LEASE_MS = 2_400;

/** For a process to be scheduled, in milliseconds; nothing is promised about it. */
const SLACK_MS = 5_000;

describe('idempotent runs across processes', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let idempotency: IdempotencyService;
  let workers: WorkerProcess[] = [];

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
    idempotency = app.get(IdempotencyService);
  });

  afterEach(async () => {
    await Promise.all(workers.map((one) => one.kill()));
    workers = [];
  });

  const start = <Result>(
    count: number,
    job: Omit<LeaseJob, 'url' | 'leaseMs'> & { leaseMs?: number },
  ): WorkerProcess<Result>[] => {
    const started = Array.from({ length: count }, (_, index) =>
      startWorker<Result>({
        script: require.resolve('./lease.worker.ts'),
        data: { url: redis.server.url, leaseMs: LEASE_MS, ...job } satisfies LeaseJob,
        index,
      }),
    );
    workers.push(...started);
    return started;
  };
  const allSay = async (some: WorkerProcess[]): Promise<unknown[]> =>
    await Promise.all(some.map((one) => one.next()));
  const tellAll = (some: WorkerProcess[]): void => some.forEach((one) => one.send({ go: true }));

  it.each(['refuse', 'wait'] as const)(
    '[ID-1] [ID-4] [ID-11] run once for 50 calls each by 4 processes, and all others replay the result: %s',
    async (onDuplicate) => {
      const callers = start<CallsReport>(4, { task: 'calls', onDuplicate });
      await allSay(callers);
      tellAll(callers);
      await allSay(callers);
      tellAll(callers);
      const reports = await Promise.all(callers.map(({ result }) => result));
      expect(reports.reduce((sum, { runs }) => sum + runs, 0)).toBe(1);
      const winner = `by ${reports.findIndex(({ runs }) => runs === 1)}`;
      for (const { results, inFlight } of reports) {
        expect(new Set(results)).toEqual(new Set([winner]));
        expect(results.length + inFlight).toBe(51);
        if (onDuplicate === 'wait') expect(inFlight).toBe(0);
      }
      const keys = await redis.client.keys('*');
      expect(keys).toHaveLength(1);
      expect(await redis.client.pttl(keys[0]!)).toBeGreaterThan(0);
    },
  );

  it('[ID-8] run again within one lease after kill -9 of the holder, once, and not before', async () => {
    const [holder] = start(1, { task: 'hold' });
    const contenders = start<{ runs: number; result: string }>(3, { task: 'contend' });
    await allSay([holder!, ...contenders]);
    tellAll(contenders);
    // The holder outlives its lease more than once; no other call runs.
    await sleep(LEASE_MS * 2.5);
    const [record] = await redis.client.keys('atomic:idempotency:*');
    expect(await stateOf(redis.client, record!)).toBe('running');
    await holder!.kill();
    const killedAt = performance.now();
    const reports = await Promise.all(contenders.map(({ result }) => result));
    expect(performance.now() - killedAt).toBeLessThan(LEASE_MS + SLACK_MS);
    expect(reports.reduce((sum, { runs }) => sum + runs, 0)).toBe(1);
    expect(new Set(reports.map(({ result }) => result)).size).toBe(1);
  });

  it.each([
    ['completes', false],
    ['fails', true],
  ])(
    '[ID-8] abort a run that SIGSTOP held past its lease, and when it %s then, it changes nothing of the new owner’s',
    async (_, fails) => {
      const [holder] = start<string>(1, { task: 'hold', fails });
      await holder!.next();
      holder!.pause();
      let finish = (): void => undefined;
      let isRunning = false;
      const second = waitFor('the second run', () =>
        idempotency.run(
          'k',
          async () => {
            isRunning = true;
            await new Promise<void>((resolve) => (finish = resolve));
            return 'of the second';
          },
          { leaseMs: LEASE_MS },
        ),
      );
      await waitFor('the lease to end', () => isRunning);
      holder!.resume();
      expect(await holder!.next()).toEqual({ aborted: 'LeaseLostError' });
      holder!.send({ go: true });
      const ended = await holder!.result.catch((error: Error) => error.message);
      expect(ended).toContain(fails ? 'a late failure' : 'of the holder');
      // Still the second one's, neither completed nor given back by the first.
      await expect(idempotency.run('k', () => 'third')).rejects.toThrow(IdempotencyInFlightError);
      finish();
      await expect(second).resolves.toBe('of the second');
      await expect(idempotency.run('k', () => 'third')).resolves.toBe('of the second');
    },
  );

  it('[ID-8] [MOD-6] are recorded if they settle in time after SIGTERM, and left to their lease otherwise', async () => {
    const [served] = start(1, { task: 'serve', leaseMs: 5_000 });
    await served!.next();
    process.kill(served!.pid, 'SIGTERM');
    // By itself, some time after shutdownTimeoutMs.
    expect(await served!.exited).toEqual({ code: null, signal: 'SIGTERM' });
    await expect(idempotency.run('settles', () => 'ran again')).resolves.toBe('settled');
    await expect(idempotency.run('never settles', () => 'ran again')).rejects.toThrow(
      IdempotencyInFlightError,
    );
    await expect(idempotency.run('never settles', () => 'ran again', { onDuplicate: 'wait' })).resolves.toBe(
      'ran again',
    );
  });
});
