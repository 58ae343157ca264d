import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { startFaultProxy, startRedisServer, type Fault, type FaultProxy } from '../../lib/testing/index.js';
import { openQueues } from '../queues/queues.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import { LOG_KEY, type ConsumerData, type QueueSoakJob } from './queue-jobs.js';
import { integerBetween, seededRandom } from './random.js';

export interface QueueSoakOptions {
  jobs: number;
  /** Consumers killed, at least. */
  kills: number;
  /** From one kill to the next, at the least: a consumer needs time to start. */
  killEveryMs: number;
  seed: number;
  /** After this it ends, whatever was reached. */
  limitMs: number;
}

export interface QueueSoakReport {
  readonly pushed: number;
  readonly kills: number;
  /** Replies of scripts and BLMOVEs that were lost, and connections cut. */
  readonly lostReplies: number;
  readonly cuts: number;
  readonly deliveries: number;
  /** Deliveries beyond the first of jobs that are no poison. */
  readonly repeated: number;
  /** Jobs that were pushed and never delivered. */
  readonly lost: number;
  /** Deliveries of which two consumers had the same: two live leases of one job. */
  readonly shared: number;
  readonly poison: number;
  readonly dead: number;
  /** In the dead letters and no poison, or poison and not there. */
  readonly wronglyJudged: number;
  /** What is left in the queue, taken or not. */
  readonly left: number;
  readonly elapsedMs: number;
}

const QUEUE = 'soak';
const CONSUMERS = 4;
const CONCURRENCY = 8;
const LEASE_MS = 2_000;
const MAX_DELIVERIES = 5;
const POISON_EVERY = 500;
const PUSH_SIZE = 100;

/** Several processes consume a queue, and are killed and started again, while it is filled and replies are lost. */
export async function soakQueues(options: QueueSoakOptions): Promise<QueueSoakReport> {
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
  const proxy = await startFaultProxy({ target: server });
  const admin = new Redis(server.url);
  const consumers = new Consumers(proxy, server.url, options.limitMs + 30_000);
  const pusher = await openQueues(proxy.url);
  try {
    await consumers.start();
    const queue = pusher.queues.get<QueueSoakJob>(QUEUE);
    const startedAt = performance.now();
    const isInTime = (): boolean => performance.now() - startedAt < options.limitMs;
    const random = seededRandom(options.seed);
    const expected = new Map<string, QueueSoakJob>();
    let isPushed = false;
    const pushing = (async () => {
      for (let n = 0; n < options.jobs; n += PUSH_SIZE) {
        const jobs = Array.from({ length: Math.min(PUSH_SIZE, options.jobs - n) }, (_, i) => ({
          n: n + i,
          isPoison: (n + i) % POISON_EVERY === 0,
        }));
        const ids = await queue.pushMany(jobs, { timeoutMs: 30_000 });
        ids.forEach((id, i) => expected.set(id, jobs[i]!));
        // Spread over the kills.
        await sleep((options.kills * options.killEveryMs) / Math.ceil(options.jobs / PUSH_SIZE));
      }
      isPushed = true;
    })();

    const faults = new Faults(proxy, random);
    const isDone = async (): Promise<boolean> => {
      if (!isPushed || consumers.kills < options.kills) return false;
      const pending = await admin.llen(`atomic:queue:pending:{${QUEUE}}:${QUEUE}`);
      return pending === 0;
    };
    let nextKillAt = performance.now() + options.killEveryMs;
    while (isInTime() && !(await isDone())) {
      faults.next();
      if (performance.now() > nextKillAt && consumers.kills < options.kills) {
        await consumers.killOne(random);
        nextKillAt = performance.now() + options.killEveryMs;
      }
      await sleep(integerBetween(random, 5, 60));
    }
    faults.end();
    await pushing;
    // Leases of the killed end, and what they held is run.
    for (;;) {
      const { pending, processing } = await queue.counts();
      if (pending + processing === 0 || !isInTime()) break;
      await sleep(100);
    }
    const elapsedMs = performance.now() - startedAt;
    const left = await queue.counts();
    const dead = new Set((await readAll(queue)).map(({ id }) => id));
    return {
      ...judge(expected, await admin.lrange(LOG_KEY, 0, -1), dead),
      kills: consumers.kills,
      lostReplies: faults.lostReplies,
      cuts: faults.cuts,
      left: left.pending + left.processing,
      elapsedMs,
    };
  } finally {
    proxy.reset();
    await consumers.stop();
    await pusher.close();
    admin.disconnect();
    await proxy.stop();
    await server.stop();
  }
}

type Pusher = ReturnType<Awaited<ReturnType<typeof openQueues>>['queues']['get']>;

async function readAll({ deadLetters }: Pick<Pusher, 'deadLetters'>) {
  const all = [];
  for (let offset = 0; ; offset += 1_000) {
    const page = await deadLetters.list({ offset, limit: 1_000 });
    all.push(...page);
    if (page.length < 1_000) return all;
  }
}

function judge(
  expected: ReadonlyMap<string, QueueSoakJob>,
  log: readonly string[],
  dead: ReadonlySet<string>,
): Omit<QueueSoakReport, 'kills' | 'lostReplies' | 'cuts' | 'left' | 'elapsedMs'> {
  const delivered = new Map<string, number[]>();
  for (const line of log) {
    const [id = '', delivery] = line.split(' ');
    const known = delivered.get(id);
    if (known) known.push(Number(delivery));
    else delivered.set(id, [Number(delivery)]);
  }
  const jobs = [...expected];
  const isFine = ([, { isPoison }]: [string, QueueSoakJob]): boolean => !isPoison;
  const deliveriesOf = (id: string): number[] => delivered.get(id) ?? [];
  return {
    pushed: expected.size,
    deliveries: log.length,
    repeated: jobs.filter(isFine).reduce((sum, [id]) => sum + Math.max(0, deliveriesOf(id).length - 1), 0),
    lost: jobs.filter(([id]) => !delivered.has(id)).length,
    shared: [...delivered.values()].reduce((sum, numbers) => sum + numbers.length - new Set(numbers).size, 0),
    poison: jobs.filter((job) => !isFine(job)).length,
    dead: dead.size,
    wronglyJudged: jobs.filter(([id, { isPoison }]) => dead.has(id) !== isPoison).length,
  };
}

class Consumers {
  kills = 0;
  private readonly running: { worker: WorkerProcess; ready: Promise<unknown> }[] = [];

  constructor(
    private readonly proxy: FaultProxy,
    private readonly directUrl: string,
    private readonly timeoutMs: number,
  ) {}

  async start(): Promise<void> {
    for (let i = 0; i < CONSUMERS; i++) this.startOne();
    await Promise.all(this.running.map(({ ready }) => ready));
  }

  /** One that is at work, so that each kill hits jobs in hand. */
  async killOne(random: () => number): Promise<void> {
    const at = integerBetween(random, 0, CONSUMERS - 1);
    const [victim] = this.running.splice(at, 1);
    await victim!.ready;
    await victim!.worker.kill();
    this.kills++;
    this.startOne();
  }

  async stop(): Promise<void> {
    await Promise.all(this.running.map(({ worker }) => worker.kill()));
  }

  private startOne(): void {
    const data: ConsumerData = {
      url: this.proxy.url,
      directUrl: this.directUrl,
      queue: QUEUE,
      concurrency: CONCURRENCY,
      leaseMs: LEASE_MS,
      maxDeliveries: MAX_DELIVERIES,
    };
    const script = join(__dirname, 'queues.worker.ts');
    const worker = startWorker({ script, data, timeoutMs: this.timeoutMs });
    const ready = worker.next();
    // Killed before it was ready, at the end.
    ready.catch(() => undefined);
    this.running.push({ worker, ready });
  }
}

/** Loses a reply of a script or of a BLMOVE, one of each at a time, or cuts every connection. */
class Faults {
  cuts = 0;
  private readonly armed: Fault[] = [];
  private readonly current = new Map<string, Fault>();

  constructor(
    private readonly proxy: FaultProxy,
    private readonly random: () => number,
  ) {}

  get lostReplies(): number {
    return this.armed.reduce((sum, { count }) => sum + count, 0);
  }

  next(): void {
    if (integerBetween(this.random, 1, 100) === 1) {
      this.cuts++;
      this.proxy.disconnectAll();
      return;
    }
    const command = integerBetween(this.random, 1, 2) === 1 ? 'BLMOVE' : 'EVALSHA';
    if (this.current.get(command)?.count === 0) return;
    const fault = this.proxy.loseReplies({ match: ({ name }) => name === command });
    this.current.set(command, fault);
    this.armed.push(fault);
  }

  end(): void {
    for (const fault of this.armed) fault.cancel();
  }
}
