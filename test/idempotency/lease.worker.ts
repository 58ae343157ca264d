import { setTimeout as sleep } from 'node:timers/promises';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule, IdempotencyInFlightError, IdempotencyService } from '../../lib/index.js';
import { worker, type WorkerContext } from '../support/worker.js';

export interface LeaseJob {
  task: keyof typeof tasks;
  url: string;
  leaseMs: number;
  /** Of `hold`: the method fails at its end. */
  fails?: boolean;
}

export interface CallsReport {
  runs: number;
  results: string[];
  inFlight: number;
}

type Context = WorkerContext<LeaseJob> & { idempotency: IdempotencyService };

const tasks = {
  /** 50 calls at once, and one after them. */
  calls: async ({ idempotency, data: { leaseMs }, index, send, next }: Context): Promise<CallsReport> => {
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
          { leaseMs },
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
  const app = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection: context.data.url })],
  }).compile();
  app.useLogger(false);
  await app.init();
  try {
    return await tasks[context.data.task]({ ...context, idempotency: app.get(IdempotencyService) });
  } finally {
    await app.close();
  }
});
