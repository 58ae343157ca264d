import type { TestingModule } from '@nestjs/testing';
import type { Cluster } from 'ioredis';
import { TransferService, type ConnectionOption } from 'nestjs-atomic-redis';
import { useApp } from '../../support/app.js';
import { startCluster, type TestCluster } from '../../support/cluster.js';
import { waitFor } from '../../support/wait-for.js';
import { startWorker, type WorkerProcess } from '../../support/workers.js';
import type { StepJob } from './across-slots.worker.js';
import { hookSteps, left, never, STEPS, type Step } from './support.js';

/** A balance that no number can be added to and be exact. */
const FULL = String(Number.MAX_SAFE_INTEGER);

describe('transfers across slots whose process dies or stops, on a Cluster', () => {
  const boot = useApp();
  let cluster: TestCluster;
  let client: Cluster;
  let connection: ConnectionOption;
  let app: TestingModule;
  let transfers: TransferService;

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
    client = cluster.connect();
    connection = { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) };
    // It looks at every slot, again and again.
    app = await boot({ connection, timeoutMs: 30_000 });
    transfers = app.get(TransferService);
  });

  beforeEach(() => Promise.all(cluster.nodes.map((node) => node.client.flushall())));

  afterAll(async () => {
    client?.disconnect();
    await cluster?.stop();
  });

  const start = (job: Omit<StepJob, 'connection' | 'amount'>): WorkerProcess =>
    startWorker({
      script: require.resolve('./across-slots.worker.ts'),
      data: { ...job, connection, amount: 30 } satisfies StepJob,
      timeoutMs: 60_000,
    });

  /** A source with 100; a target that takes what it gets, or refuses. */
  const accounts = async (name: string, fits: boolean): Promise<{ from: string; to: string }> => {
    const pair = { from: `{${name}}source`, to: `{to ${name}}target` };
    await client.set(pair.from, 100);
    await client.set(pair.to, fits ? 0 : FULL);
    return pair;
  };

  const expectSettled = async ({ from, to }: { from: string; to: string }, fits: boolean): Promise<void> => {
    const expected = fits ? ['70', '30'] : ['100', FULL];
    expect([await client.get(from), await client.get(to)]).toEqual(expected);
  };

  const expectTidy = async (): Promise<void> => {
    // Nor is there a list of transfers under way.
    const { decisions, others } = await left({ client });
    expect(others).toEqual([]);
    expect(decisions.filter(({ ttlMs }) => ttlMs < 0)).toEqual([]);
  };

  /** Leaves a transfer behind as a process does that ended right after it took the amount. */
  const abandon = async (pair: { from: string; to: string }): Promise<void> => {
    const other = await boot({ connection, shutdownTimeoutMs: 0 });
    hookSteps(other, async (step, run) => (step === 'begin' ? await run() : await never));
    void other.get(TransferService).acrossSlots({ ...pair, amount: 30 });
    await waitFor('it was begun', async () => (await client.get(pair.from)) === '70');
    await other.close();
  };

  /** Kills a process right after each of the steps, a few at a time. */
  const killAfter = async (
    does: StepJob['does'],
    steps: readonly Step[],
    pairs: readonly { from: string; to: string }[],
  ): Promise<void> => {
    const rest = [...steps.entries()];
    const kill = async (): Promise<void> => {
      for (let next = rest.shift(); next; next = rest.shift()) {
        const [i, step] = next;
        const process = start({ does, ...pairs[i]!, stopAt: { step, when: 'after' } });
        try {
          expect(await process.next()).toBe('stopped');
        } finally {
          await process.kill();
        }
      }
    };
    await Promise.all([kill(), kill(), kill()]);
  };

  it.each([true, false])(
    '[TR-14] are completed or returned by others after kill -9 between any two steps (target has room: %s)',
    async (fits) => {
      const pairs = await Promise.all(STEPS.map((step) => accounts(step, fits)));
      await killAfter('transfer', STEPS, pairs);
      const { transfers: listed } = await transfers.pending();
      const closed = fits ? 'credited' : 'refunded';
      const stateAfter = (i: number): string | undefined =>
        listed.find(({ from }) => from === pairs[i]!.from)?.state;
      expect(STEPS.map((_, i) => stateAfter(i))).toEqual(['open', 'open', closed, closed, undefined]);

      expect(await transfers.recover({ minAgeMs: 0 })).toEqual({
        credited: fits ? 4 : 0,
        refunded: fits ? 0 : 4,
        failed: 0,
        errors: [],
      });
      for (const pair of pairs) await expectSettled(pair, fits);
      await expectTidy();
    },
    120_000,
  );

  it.each([true, false])(
    '[TR-14] are also completed when the recoverer is killed between its own steps (target has room: %s)',
    async (fits) => {
      const steps: Step[] = ['read', 'decide', 'close', 'expire-decision', 'forget'];
      const pairs = await Promise.all(steps.map((step) => accounts(step, fits)));
      await Promise.all(pairs.map(abandon));
      await killAfter('recover', steps, pairs);
      expect(await transfers.recover({ minAgeMs: 0 })).toMatchObject({ failed: 0 });
      for (const pair of pairs) await expectSettled(pair, fits);
      await expectTidy();
    },
    120_000,
  );

  it('[TR-15] are not changed by a process that was stopped in the deposit and resumes after all records have expired', async () => {
    const points = [
      { does: 'recover', step: 'read', when: 'after' },
      { does: 'recover', step: 'decide', when: 'before' },
      { does: 'transfer', step: 'begin', when: 'after' },
      { does: 'transfer', step: 'decide', when: 'before' },
    ] as const;
    for (const { does, ...stopAt } of points) {
      const pair = await accounts(`${does} ${stopAt.step}`, true);
      if (does === 'recover') await abandon(pair);
      const stalled = start({ does, ...pair, stopAt, validForMs: 300 });
      expect(await stalled.next()).toBe('stopped');
      stalled.pause();
      try {
        const recovered = await transfers.recover({ from: pair.from, minAgeMs: 0 });
        expect(recovered).toMatchObject({ credited: 1, failed: 0 });
        const [decision] = (await left({ client })).decisions;
        // An hour passes: the decision is forgotten, and so long its validity has not lasted.
        await new Promise((resolve) => setTimeout(resolve, 400));
        await client.del(decision!.key);
        stalled.resume();
        stalled.send({});
        const result = stalled.result.catch((error: unknown) => String(error));
        if (does === 'recover') expect(await result).toMatchObject({ credited: 0, failed: 1 });
        else expect(await result).toMatch('TransferPendingError');
      } finally {
        await stalled.kill();
      }
      await expectSettled(pair, true);
    }
    await expectTidy();
  }, 120_000);

  it('[TR-15] are not changed by a process that was stopped before a later step and resumes after others have finished', async () => {
    const all = await Promise.all(
      (['close', 'expire-decision', 'forget'] as const).flatMap((step) =>
        [true, false].map(async (fits) => {
          const pair = await accounts(`${step}${fits}`, fits);
          const process = start({
            does: 'transfer',
            ...pair,
            stopAt: { step, when: 'before' },
            // Others look at every slot meanwhile.
            timeoutMs: 60_000,
          });
          return { pair, fits, process };
        }),
      ),
    );
    try {
      for (const { process } of all) {
        expect(await process.next()).toBe('stopped');
        process.pause();
      }
      expect(await transfers.recover({ minAgeMs: 0 })).toMatchObject({ failed: 0 });
      for (const { process, fits } of all) {
        process.resume();
        process.send({});
        // Its caller gets the target's decision.
        if (fits) expect(await process.result).toMatchObject({ from: 70, to: 30 });
        else await expect(process.result).rejects.toThrow('UnsafeIntegerError');
      }
    } finally {
      await Promise.all(all.map(({ process }) => process.kill()));
    }
    for (const { pair, fits } of all) await expectSettled(pair, fits);
    await expectTidy();
  }, 120_000);
});
