import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { startFaultProxy, startRedisServer, type Fault, type FaultProxy } from '../../lib/testing/index.js';
import { recordOperation } from '../histories/recorder.js';
import { openQueues } from '../queues/queues.js';
import { startWorker } from '../support/workers.js';
import { startSlowLink, type SlowLink } from '../support/slow-link.js';
import {
  EARLY_KEY,
  LOG_KEY,
  ORDER_KEY,
  type ConsumerData,
  type QueueSoakJob,
  type QueueSoakKind,
} from './queue-jobs.js';
import { ProxyFaults } from './proxy-faults.js';
import { integerBetween, seededRandom } from './random.js';
import { ReplacedWorkers, type ReplacedWorker } from './replaced-workers.js';

export interface QueueSoakOptions {
  jobs: number;
  /** Consumers killed or stopped by turns, at least; jobs that kill theirs come on top of it. */
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
  /** Consumers that were stopped with jobs in hand. */
  readonly stops: number;
  /** Replies of scripts and BZPOPMINs that were lost, and connections cut. */
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
  /** Jobs that were pushed for later, and deliveries of them before their time. */
  readonly later: number;
  readonly early: number;
  /** Number of jobs of the ordered queue that ran for the first time after a later one. */
  readonly disordered: number;
  /** Number of jobs left in the queues, taken or not. */
  readonly left: number;
  readonly elapsedMs: number;
}

const QUEUE = 'soak';
const CONSUMERS = 4;
const CONCURRENCY = 8;
const LEASE_MS = 2_000;
const MAX_DELIVERIES = 5;
const ORDERED = 'soak-ordered';
const ORDERED_JOBS = 400;
const POISON_EVERY = 500;
const KILLER_EVERY = 5_000;
const REFUSED_EVERY = 50;
/** One push in this many is delayed. */
const LATER_EVERY = 4;
const LATER_MS = 700;
const LARGE_EVERY = 200;
const LARGE_BYTES = 400_000;
/** For consumers that have no faults, and a slow link. */
const LINK_BYTES_PER_SECOND = 2_000_000;
const PUSH_SIZE = 100;

/**
 * Several processes consume a queue, and are killed and started again, while it is filled and
 * replies are lost.
 */
export async function soakQueues(options: QueueSoakOptions): Promise<QueueSoakReport> {
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
  const proxy = await startFaultProxy({ target: server });
  const admin = new Redis(server.url);
  const link = await startSlowLink(server, LINK_BYTES_PER_SECOND);
  const consumers = new Consumers(proxy, link, server.url, options.limitMs + 30_000);
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
        const delayMs = (n / PUSH_SIZE) % LATER_EVERY === 1 ? LATER_MS : 0;
        const [seconds, micros] = await admin.time();
        const dueAtMs = Number(seconds) * 1_000 + Number(micros) / 1_000 + delayMs - 1;
        const jobs = Array.from({ length: Math.min(PUSH_SIZE, options.jobs - n) }, (_, i) => ({
          ...jobOf(n + i),
          ...(delayMs > 0 && { dueAtMs }),
        }));
        const first = n;
        const ids = await recordOperation({ name: 'push', args: { first, count: jobs.length } }, () =>
          queue.pushMany(jobs, { timeoutMs: 30_000, delayMs }),
        );
        ids.forEach((id, i) => expected.set(id, jobs[i]!));
        // Spread over the kills.
        await sleep((options.kills * options.killEveryMs) / Math.ceil(options.jobs / PUSH_SIZE));
      }
      isPushed = true;
    })();
    const ordered = pusher.queues.get<number>(ORDERED);
    await ordered.pushMany(Array.from({ length: ORDERED_JOBS }, (_, i) => i));

    const faults = new Faults(proxy, random);
    const isDone = async (): Promise<boolean> => {
      if (!isPushed || consumers.struck < options.kills) return false;
      const pending = await admin.llen(`atomic:queue:pending:{${QUEUE}}:${QUEUE}`);
      return pending === 0;
    };
    let nextKillAt = performance.now() + options.killEveryMs;
    while (isInTime() && !(await isDone())) {
      faults.next();
      if (performance.now() > nextKillAt && consumers.struck < options.kills) {
        await consumers.strikeOne(random);
        nextKillAt = performance.now() + options.killEveryMs;
      }
      await sleep(integerBetween(random, 5, 60));
    }
    faults.end();
    await pushing;
    // Leases of the killed end, and what they held is run.
    for (;;) {
      const counts = [await queue.counts(), await ordered.counts()];
      if (counts.every(({ pending, processing }) => pending + processing === 0) || !isInTime()) break;
      await sleep(100);
    }
    const elapsedMs = performance.now() - startedAt;
    const left = [await queue.counts(), await ordered.counts()];
    const dead = new Set((await readAll(queue)).map(({ id }) => id));
    return {
      ...judge(expected, await admin.lrange(LOG_KEY, 0, -1), dead),
      kills: consumers.kills,
      stops: consumers.stops,
      early: await admin.llen(EARLY_KEY),
      disordered: disorderIn((await admin.lrange(ORDER_KEY, 0, -1)).map(Number)),
      lostReplies: faults.lostReplies,
      cuts: faults.cuts,
      left: left.reduce((sum, { pending, processing }) => sum + pending + processing, 0),
      elapsedMs,
    };
  } finally {
    proxy.reset();
    await consumers.stop();
    await pusher.close();
    admin.disconnect();
    await proxy.stop();
    await link.stop();
    await server.stop();
  }
}

function jobOf(n: number): QueueSoakJob {
  const kinds: [QueueSoakKind, boolean][] = [
    ['killer', n % KILLER_EVERY === 300],
    ['poison', n % POISON_EVERY === 0],
    ['large', n % LARGE_EVERY === 1],
    ['refused', n % REFUSED_EVERY === 2],
    ['failing', n % REFUSED_EVERY === 3],
  ];
  const kind = kinds.find(([, is]) => is)?.[0] ?? 'fine';
  return { n, kind, ...(kind === 'large' && { bytes: 'x'.repeat(LARGE_BYTES) }) };
}

/**
 * Counts the jobs that ran for the first time after a later one. A job that runs again because its
 * process was killed may run late.
 */
function disorderIn(run: readonly number[]): number {
  const seen = new Set<number>();
  let last = -1;
  let count = ORDERED_JOBS;
  for (const n of run) {
    if (seen.has(n)) continue;
    seen.add(n);
    if (n > last) count--;
    last = Math.max(last, n);
  }
  return count;
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
): Omit<
  QueueSoakReport,
  'kills' | 'stops' | 'lostReplies' | 'cuts' | 'early' | 'disordered' | 'left' | 'elapsedMs'
> {
  const delivered = new Map<string, number[]>();
  for (const line of log) {
    const [id = '', delivery] = line.split(' ');
    const known = delivered.get(id);
    if (known) known.push(Number(delivery));
    else delivered.set(id, [Number(delivery)]);
  }
  const jobs = [...expected];
  const isDeadly = ({ kind }: QueueSoakJob): boolean => kind === 'poison' || kind === 'killer';
  const isFine = ([, job]: [string, QueueSoakJob]): boolean => !isDeadly(job);
  const deliveriesOf = (id: string): number[] => delivered.get(id) ?? [];
  return {
    pushed: expected.size,
    later: jobs.filter(([, { dueAtMs }]) => dueAtMs !== undefined).length,
    deliveries: log.length,
    repeated: jobs.filter(isFine).reduce((sum, [id]) => sum + Math.max(0, deliveriesOf(id).length - 1), 0),
    lost: jobs.filter(([id]) => !delivered.has(id)).length,
    shared: [...delivered.values()].reduce((sum, numbers) => sum + numbers.length - new Set(numbers).size, 0),
    poison: jobs.filter((job) => !isFine(job)).length,
    dead: dead.size,
    wronglyJudged: jobs.filter(([id, job]) => dead.has(id) !== isDeadly(job)).length,
  };
}

interface Consumer extends ReplacedWorker {
  readonly isOrdered: boolean;
}

class Consumers extends ReplacedWorkers<Consumer> {
  kills = 0;
  stops = 0;
  private started = 0;

  constructor(
    private readonly proxy: FaultProxy,
    private readonly link: SlowLink,
    private readonly directUrl: string,
    private readonly timeoutMs: number,
  ) {
    super();
  }

  get struck(): number {
    return this.kills + this.stops;
  }

  async start(): Promise<void> {
    for (let i = 0; i < CONSUMERS; i++) this.startOne(i === 0);
    await Promise.all(this.running.map(({ ready }) => ready));
  }

  /**
   * Kills one that is at work, or stops one with jobs in hand, by turns. The one of the ordered
   * queue is only stopped: what its death leaves is run late.
   */
  async strikeOne(random: () => number): Promise<void> {
    const victim = this.one(random);
    // A job may kill it meanwhile.
    await victim.ready.catch(() => undefined);
    if (victim.isOrdered || this.stops < this.kills) {
      this.stops++;
      victim.worker.send({ stop: true });
      await victim.worker.exited;
    } else {
      this.kills++;
      await victim.worker.kill();
    }
  }

  protected override startLike({ isOrdered }: Consumer): void {
    this.startOne(isOrdered);
  }

  private startOne(isOrdered: boolean): void {
    const data: ConsumerData = {
      // Every third of the others too.
      url: isOrdered || ++this.started % 3 === 0 ? this.link.url : this.proxy.url,
      directUrl: this.directUrl,
      // The one of the ordered queue takes none of the jobs that kill.
      queue: isOrdered ? `${QUEUE}-none` : QUEUE,
      ordered: isOrdered ? ORDERED : undefined,
      concurrency: CONCURRENCY,
      leaseMs: LEASE_MS,
      maxDeliveries: MAX_DELIVERIES,
    };
    const script = join(__dirname, 'queues.worker.ts');
    const worker = startWorker({ script, data, timeoutMs: this.timeoutMs });
    worker.result.catch(() => undefined);
    this.add({ worker, ready: worker.next(), isOrdered });
  }
}

/** Loses a reply of a script or of a BZPOPMIN, one of each at a time, or cuts every connection. */
class Faults extends ProxyFaults {
  private readonly current = new Map<string, Fault>();

  override next(): void {
    if (integerBetween(this.random, 1, 100) === 1) return this.cut();
    const command = integerBetween(this.random, 1, 2) === 1 ? 'BZPOPMIN' : 'EVALSHA';
    if (this.current.get(command)?.count === 0) return;
    this.current.set(command, this.arm(this.proxy.loseReplies({ match: ({ name }) => name === command })));
  }
}
