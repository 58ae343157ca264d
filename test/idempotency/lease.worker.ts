import { setTimeout as sleep } from 'node:timers/promises';
import type { TestingModule } from '@nestjs/testing';
import { IdempotencyInFlightError, IdempotencyService } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { worker, type WorkerContext } from '../support/worker.js';

export interface LeaseJob {
  task: keyof typeof tasks;
  url: string;
  leaseMs: number;
  /** For `hold`: the method fails at its end. */
  fails?: boolean;
  /** For `calls`. */
  onDuplicate?: 'refuse' | 'wait';
}

export interface CallsReport {
  runs: number;
  results: string[];
  inFlight: number;
}

type Context = WorkerContext<LeaseJob> & { idempotency: IdempotencyService; app: TestingModule };

const tasks = {
  /** 50 calls at once, and one after them. */
  calls: async ({ idempotency, data, index, send, next }: Context): Promise<CallsReport> => {
    const report: CallsReport = { runs: 0, results: [], inFlight: 0 };
    const call = async (): Promise<void> => {
      try {
        const result = await idempotency.run(
          'k',
          async () => {
            report.runs++;
            await sleep(100);
            return `by ${index}`;
          },
          { leaseMs: data.leaseMs, onDuplicate: data.onDuplicate, timeoutMs: 10_000 },
        );
        report.results.push(result);
      } catch (error) {
        if (!(error instanceof IdempotencyInFlightError)) throw error;
        report.inFlight++;
      }
    };
    send('ready');
    await next();
    await Promise.all(Array.from({ length: 50 }, call));
    send('called');
    await next();
    await call();
    return report;
  },

  /** Calls until it gets a result; tells whether it was its own run. */
  contend: async ({ idempotency, data: { leaseMs }, index, send, next }: Context) => {
    let runs = 0;
    send('ready');
    await next();
    for (;;) {
      try {
        const result = await idempotency.run('k', () => `by ${index}, run ${++runs}`, { leaseMs });
        return { runs, result };
      } catch (error) {
        if (!(error instanceof IdempotencyInFlightError)) throw error;
        await sleep(10);
      }
    }
  },

  /**
   * Imitates an application that shuts down during two runs, one of which settles. Reports when
   * they run, and ends.
   */
  serve: async ({ data: { leaseMs }, app, send }: Context) => {
    const idempotency = app.get(IdempotencyService);
    app.enableShutdownHooks();
    const told = new Promise((resolve) => process.once('SIGTERM', resolve));
    const settles = idempotency.run('settles', async () => {
      await told;
      await sleep(300);
      return 'settled';
    });
    const never = idempotency.run('never settles', () => new Promise<void>(() => undefined), { leaseMs });
    never.catch(() => undefined);
    await idempotency.run('warm-up', () => 1);
    send('running');
    await settles;
    // Nothing here keeps the process any longer: it ends when the module has closed, by the signal.
    await new Promise(() => undefined);
  },

  /** Holds the key until told to end. Says when it began, and with what its signal aborted. */
  hold: async ({ idempotency, data: { leaseMs, fails }, send, next }: Context) =>
    await idempotency.run(
      'k',
      async ({ signal }) => {
        signal.addEventListener('abort', () => send({ aborted: (signal.reason as Error).name }));
        send('running');
        await next();
        if (fails) throw new Error('a late failure');
        return 'of the holder';
      },
      { leaseMs },
    ),
};

worker<LeaseJob>(async (context) => {
  const app = await startApp({ connection: context.data.url, shutdownTimeoutMs: 1_500 });
  try {
    return await tasks[context.data.task]({ ...context, app, idempotency: app.get(IdempotencyService) });
  } finally {
    await app.close();
  }
});
