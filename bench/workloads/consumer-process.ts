import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import { ReliableQueueService } from 'nestjs-atomic-redis';
import { startApp } from '../app.js';

/** The task of the process: an argument that it is forked with. */
export interface ConsumerTask {
  readonly contestant: 'ours' | 'bullmq';
  readonly url: string;
  readonly port: number;
  /** Jobs to drain. */
  readonly jobs: number;
  /** Duration of the pushes at each rate, in milliseconds. */
  readonly rateMs: number;
}

/** By the name of what was measured. */
export type ConsumerNumbers = Record<string, number>;

interface Payload {
  readonly to: string;
  readonly subject: string;
  readonly order: number;
  readonly pushedAt: number;
}

type Handler = (payload: Payload) => unknown;

interface Contestant {
  push(payload: Payload): Promise<unknown>;
  pushMany(payloads: Payload[]): Promise<unknown>;
  /** Resolves with what stops it. */
  consume(handler: Handler): Promise<() => Promise<unknown>>;
}

const CONCURRENCY = 50;
const HANDLER_MS = 5;
const CHUNK = 1_000;
const RATES = [200, 1_000];

const payloadOf = (order: number): Payload => ({
  to: 'ada@example.org',
  subject: 'Your order',
  order,
  pushedAt: performance.now(),
});

async function ours({ url }: ConsumerTask): Promise<Contestant> {
  const app = await startApp(url);
  const queue = app.get(ReliableQueueService).get<Payload>('consumers');
  return {
    push: (payload) => queue.push(payload),
    pushMany: (payloads) => queue.pushMany(payloads),
    async consume(handler) {
      const consumer = queue.consume(({ payload }) => handler(payload), { concurrency: CONCURRENCY });
      return await Promise.resolve(() => consumer.stop());
    },
  };
}

async function bullmq({ port }: ConsumerTask): Promise<Contestant> {
  const connection = { port, host: '127.0.0.1', maxRetriesPerRequest: null };
  const queue = new Queue<Payload>('consumers', {
    connection,
    defaultJobOptions: { removeOnComplete: true },
  });
  await queue.waitUntilReady();
  return {
    push: (data) => queue.add('mail', data),
    pushMany: (payloads) => queue.addBulk(payloads.map((data) => ({ name: 'mail', data }))),
    async consume(handler) {
      const worker = new Worker<Payload>('consumers', async (job) => handler(job.data), {
        connection,
        concurrency: CONCURRENCY,
      });
      await worker.waitUntilReady();
      return () => worker.close();
    },
  };
}

const cpuUs = (): number => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

/** Drains what waits. @returns jobs in a second, and CPU time of each in µs */
async function drain(contestant: Contestant, jobs: number, handlerMs: number): Promise<[number, number]> {
  for (let n = 0; n < jobs; n += CHUNK)
    await contestant.pushMany(Array.from({ length: Math.min(CHUNK, jobs - n) }, (_, i) => payloadOf(n + i)));
  let done = 0;
  let allDone = (): void => undefined;
  const all = new Promise<void>((resolve) => (allDone = resolve));
  const [cpuBefore, began] = [cpuUs(), performance.now()];
  const stop = await contestant.consume(async () => {
    if (handlerMs > 0) await sleep(handlerMs);
    if (++done === jobs) allDone();
  });
  await all;
  const measured: [number, number] = [
    (jobs / (performance.now() - began)) * 1_000,
    (cpuUs() - cpuBefore) / jobs,
  ];
  await stop();
  return measured;
}

/** From push to handler, in ms, and CPU time for each job in µs. */
async function atRate(contestant: Contestant, perSecond: number, ms: number): Promise<ConsumerNumbers> {
  const delays: number[] = [];
  const stop = await contestant.consume(({ pushedAt }) => void delays.push(performance.now() - pushedAt));
  await sleep(300);
  const [cpuBefore, began] = [cpuUs(), performance.now()];
  const jobs = Math.ceil((perSecond * ms) / 1_000);
  const pushes: Promise<unknown>[] = [];
  for (let n = 0; n < jobs; n++) {
    const at = began + (n * 1_000) / perSecond;
    while (performance.now() < at) await sleep(Math.max(0, at - performance.now()));
    pushes.push(contestant.push(payloadOf(n)));
  }
  await Promise.all(pushes);
  while (delays.length < jobs) await sleep(5);
  const cpu = (cpuUs() - cpuBefore) / jobs;
  await stop();
  delays.sort((a, b) => a - b);
  return {
    [`delay at ${perSecond} jobs/s, p50, ms`]: delays[Math.floor(jobs * 0.5)]!,
    [`delay at ${perSecond} jobs/s, p99, ms`]: delays[Math.floor(jobs * 0.99)]!,
    [`CPU at ${perSecond} jobs/s, µs/job`]: cpu,
  };
}

async function measureAll(task: ConsumerTask): Promise<ConsumerNumbers> {
  const contestant = await (task.contestant === 'ours' ? ours(task) : bullmq(task));
  // Once before: the code is compiled.
  await drain(contestant, task.jobs, 0);
  const [fast, fastCpu] = await drain(contestant, task.jobs, 0);
  const [slow, slowCpu] = await drain(contestant, task.jobs, HANDLER_MS);
  const numbers: ConsumerNumbers = {
    'handler of 0 ms, jobs/s': fast,
    'handler of 0 ms, CPU, µs/job': fastCpu,
    [`handler of ${HANDLER_MS} ms, jobs/s`]: slow,
    [`handler of ${HANDLER_MS} ms, CPU, µs/job`]: slowCpu,
  };
  for (const rate of RATES) Object.assign(numbers, await atRate(contestant, rate, task.rateMs));
  return numbers;
}

/**
 * Pushes jobs and leaves them, or waits for jobs that never come: what that costs is read at the
 * server.
 */
async function stand(task: ConsumerTask, how: 'fill' | 'idle'): Promise<void> {
  const contestant = await (task.contestant === 'ours' ? ours(task) : bullmq(task));
  if (how === 'idle') await contestant.consume(() => undefined);
  else
    for (let n = 0; n < task.jobs; n += CHUNK)
      await contestant.pushMany(
        Array.from({ length: Math.min(CHUNK, task.jobs - n) }, (_, i) => payloadOf(n + i)),
      );
}

const [how, task] = process.argv.slice(2) as ['measure' | 'fill' | 'idle', string];
const given = JSON.parse(task) as ConsumerTask;
if (how === 'measure') process.send!(await measureAll(given));
else {
  await stand(given, how);
  process.send!({});
}
