import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { startFaultProxy, startRedisServer, type Fault } from '../../lib/testing/index.js';
import { openQueues } from '../queues/queues.js';
import { startWorker } from '../support/workers.js';
import { HandoverKeys, MAILS, ORDERS, type HandoverData } from './handover-jobs.js';
import { ProxyFaults } from './proxy-faults.js';
import { integerBetween, seededRandom } from './random.js';
import { ReplacedWorkers, type ReplacedWorker } from './replaced-workers.js';

export interface HandoverOptions {
  /** Orders placed, at least. */
  jobs: number;
  /** Workers killed, and workers stopped for longer than a lease, at least. */
  kills: number;
  pauses: number;
  /** From one kill or pause to the next, at the least, in milliseconds. */
  strikeEveryMs: number;
  seed: number;
  /** After this no more orders are placed, whatever was reached. */
  limitMs: number;
}

export interface HandoverReport {
  /** Transactions that placed an order, as Redis has it. */
  readonly placed: number;
  readonly kills: number;
  readonly pauses: number;
  readonly lostReplies: number;
  readonly cuts: number;
  /** Orders that were placed more than once. */
  readonly placedTwice: number;
  /** Orders that were placed, and whose job had no effect, or more than one. */
  readonly wronglyShipped: number;
  /** Orders whose job had an effect though they were not placed. */
  readonly shippedUnplaced: number;
  /** The same of the jobs that the shipping transactions pushed. */
  readonly wronglyMailed: number;
  readonly mailedUnshipped: number;
  /** Callers that got the opposite of the truth. */
  readonly toldWrongly: number;
  /** Jobs in the dead letters, and jobs left in the queues. */
  readonly dead: number;
  readonly left: number;
  readonly elapsedMs: number;
}

const WORKERS = 4;
/** Time for shipping and mailing what was placed, once there are no more faults. */
const DRAIN_MS = 300_000;
const PAUSE_MS = { least: 1_500, most: 6_000 };

/**
 * Processes place orders, ship them and mail, each step by a transaction that ends the job before
 * and pushes the next, while they are killed and stopped and replies are lost.
 */
export async function soakHandover(options: HandoverOptions): Promise<HandoverReport> {
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
  const proxy = await startFaultProxy({ target: server });
  const admin = new Redis(server.url);
  const watcher = await openQueues(server.url);
  const random = seededRandom(options.seed);
  const workers = new Workers({ url: proxy.url, directUrl: server.url }, options.limitMs + DRAIN_MS + 60_000);
  try {
    const startedAt = performance.now();
    const isInTime = (): boolean => performance.now() - startedAt < options.limitMs;
    await workers.start();
    const faults = new Faults(proxy, random);
    let nextStrikeAt = performance.now() + options.strikeEveryMs;
    const isReached = async (): Promise<boolean> =>
      workers.kills >= options.kills &&
      workers.pauses >= options.pauses &&
      (await admin.hlen(HandoverKeys.placed)) >= options.jobs;
    while (isInTime() && !(await isReached())) {
      faults.next();
      if (performance.now() > nextStrikeAt) {
        const wantsPause = workers.pauses < options.pauses && workers.pauses <= workers.kills;
        if (wantsPause) workers.pauseOne(random);
        else if (workers.kills < options.kills) await workers.killOne(random);
        nextStrikeAt = performance.now() + options.strikeEveryMs;
      }
      await sleep(integerBetween(random, 20, 200));
    }
    faults.end();
    // Orders that are being placed are placed, or not; then the rest is shipped and mailed.
    await admin.set(HandoverKeys.closed, 1);
    const queues = [ORDERS, MAILS].map((name) => watcher.queues.get(name));
    const counted = () => Promise.all(queues.map((queue) => queue.counts()));
    await workers.settled();
    const drainUntil = performance.now() + DRAIN_MS;
    while (
      performance.now() < drainUntil &&
      (await counted()).some(({ pending, processing }) => pending + processing > 0)
    )
      await sleep(100);
    const counts = await counted();
    return {
      ...(await judge(admin)),
      kills: workers.kills,
      pauses: workers.pauses,
      lostReplies: faults.lostReplies,
      cuts: faults.cuts,
      dead: counts.reduce((sum, { dead }) => sum + dead, 0),
      left: counts.reduce((sum, { pending, processing }) => sum + pending + processing, 0),
      elapsedMs: performance.now() - startedAt,
    };
  } finally {
    proxy.reset();
    await workers.stop();
    await watcher.close();
    admin.disconnect();
    await proxy.stop();
    await server.stop();
  }
}

/** True if each job was there exactly if its transaction was applied, and had its effect once. */
export const isHandedOver = (report: HandoverReport): boolean =>
  [
    report.placedTwice,
    report.wronglyShipped,
    report.shippedUnplaced,
    report.wronglyMailed,
    report.mailedUnshipped,
    report.toldWrongly,
    report.dead,
    report.left,
  ].every((count) => count === 0);

async function judge(
  admin: Redis,
): Promise<
  Pick<
    HandoverReport,
    | 'placed'
    | 'placedTwice'
    | 'wronglyShipped'
    | 'shippedUnplaced'
    | 'wronglyMailed'
    | 'mailedUnshipped'
    | 'toldWrongly'
  >
> {
  const [placed, shipped, mailed] = await Promise.all(
    [HandoverKeys.placed, HandoverKeys.shipped, HandoverKeys.mailed].map((key) => admin.hgetall(key)),
  );
  const [done, refused] = await Promise.all(
    [HandoverKeys.toldDone, HandoverKeys.toldRefused].map((key) => admin.smembers(key)),
  );
  const countWhere = (of: object, is: (id: string) => boolean): number => Object.keys(of).filter(is).length;
  return {
    placed: Object.keys(placed!).length,
    placedTwice: countWhere(placed!, (id) => placed![id] !== '1'),
    wronglyShipped: countWhere(placed!, (id) => shipped![id] !== '1'),
    shippedUnplaced: countWhere(shipped!, (id) => placed![id] === undefined),
    wronglyMailed: countWhere(shipped!, (id) => mailed![id] !== '1'),
    mailedUnshipped: countWhere(mailed!, (id) => shipped![id] === undefined),
    toldWrongly:
      done!.filter((id) => placed![id] === undefined).length +
      refused!.filter((id) => placed![id] !== undefined).length,
  };
}

interface PausableWorker extends ReplacedWorker {
  isPaused: boolean;
}

class Workers extends ReplacedWorkers<PausableWorker> {
  kills = 0;
  pauses = 0;
  private started = 0;
  private readonly pausing = new Set<Promise<unknown>>();

  constructor(
    private readonly data: Omit<HandoverData, 'name'>,
    private readonly timeoutMs: number,
  ) {
    super();
  }

  async start(): Promise<void> {
    for (let i = 0; i < WORKERS; i++) this.startLike();
    await Promise.all(this.running.map(({ ready }) => ready));
  }

  async killOne(random: () => number): Promise<void> {
    const victim = this.one(random);
    await victim.ready.catch(() => undefined);
    this.kills++;
    await victim.worker.kill();
  }

  /** Past the lease of its jobs: others are given them meanwhile. */
  pauseOne(random: () => number): void {
    const victim = this.one(random);
    if (victim.isPaused) return;
    this.pauses++;
    victim.isPaused = true;
    victim.worker.pause();
    const pausing = (async () => {
      await sleep(integerBetween(random, PAUSE_MS.least, PAUSE_MS.most));
      victim.isPaused = false;
      victim.worker.resume();
    })();
    this.pausing.add(pausing);
    void pausing.finally(() => this.pausing.delete(pausing));
  }

  async settled(): Promise<void> {
    await Promise.all(this.pausing);
    await Promise.all(this.running.map(({ ready }) => ready.catch(() => undefined)));
  }

  protected override startLike(): void {
    const worker = startWorker({
      script: join(__dirname, 'handover.worker.ts'),
      data: { ...this.data, name: `w${++this.started}` } satisfies HandoverData,
      timeoutMs: this.timeoutMs,
    });
    this.add({ worker, ready: worker.next(), isPaused: false });
  }
}

/**
 * Loses a reply of EXEC or of a script, keeps an EXEC from the server, or has it arrive late; now
 * and then cuts every connection.
 */
class Faults extends ProxyFaults {
  private current: Fault | undefined;

  override next(): void {
    const kind = integerBetween(this.random, 0, 60);
    if (kind === 0) return this.cut();
    if (this.current?.count === 0) return;
    const on = (command: string) => ({ match: ({ name }: { name: string }) => name === command });
    const inject = [
      () => this.proxy.loseReplies(on('EXEC')),
      () => this.proxy.cutBeforeServer(on('EXEC')),
      () => this.proxy.deliverLate(integerBetween(this.random, 20, 2_000), on('EXEC')),
      () => this.proxy.loseReplies(on('EVALSHA')),
      () => this.proxy.loseReplies(on('WATCH')),
    ];
    this.current = this.arm(inject[kind % inject.length]!());
  }
}
