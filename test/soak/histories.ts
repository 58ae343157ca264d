import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis, type Cluster } from 'ioredis';
import type { DurabilityOptions } from '../../lib/index.js';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisCommand,
} from '../../lib/testing/index.js';
import { nowUs, type Operation } from '../histories/history.js';
import type { Step } from '../histories/list-append.js';
import { noteOperation, startRecording } from '../histories/recorder.js';
import { startCluster } from '../support/cluster.js';
import { makeSteppedClock, seeStep, type SteppedClock } from '../support/stepped-clock.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import { ClusterFaults, lossesOf } from './cluster-faults.js';
import {
  FaultInjector,
  RESTART,
  serverFaults,
  type SetFault,
  whenDelivered,
  whenMet,
  type FaultCount,
  type FaultKind,
} from './faults.js';
import type { HistoriesJob } from './histories.worker.js';
import { integerBetween, seededRandom } from './random.js';
import { historyOf, type SoakHistory } from './reproduce.js';

export interface HistoriesOptions {
  readonly seed: number;
  /** Shortest time that callers call; the soak continues until each kind of fault has struck. */
  readonly seconds: number;
  /** The server's wall clock steps too: by so much at the most, in milliseconds. */
  readonly leapMs?: number;
}

export interface ClusterHistoriesOptions {
  readonly seed: number;
  readonly moves: number;
  readonly failovers: number;
  readonly kills: number;
  readonly durability?: DurabilityOptions;
}

export interface HistoriesReport {
  readonly history: SoakHistory;
  readonly faults: readonly FaultCount[];
  readonly elapsedMs: number;
}

const WORKERS = 3;
const CALLERS = 5;
const GROUPS = 2;
const GROUPS_ON_CLUSTER = 6;
const LATE_MS = 700;
const PACE = { least: 5, most: 60 };
/** From one restart of the server, or kill of a process, to the next. */
const SELDOM_MS = { least: 1_500, most: 4_000 };

/** Processes that are killed and started again; each number keeps its place. */
class Workers {
  private readonly running: WorkerProcess[];
  private isOver = false;

  constructor(private readonly job: HistoriesJob) {
    this.running = Array.from({ length: WORKERS }, (_, index) => this.start(index));
  }

  ready(): Promise<unknown> {
    return Promise.all(this.running.map((one) => one.next()));
  }

  /** By kill -9, in the middle of what it does. */
  async kill(index: number): Promise<boolean> {
    const one = this.running[index]!;
    await one.kill();
    if (this.isOver) return true;
    this.running[index] = this.start(index);
    await this.running[index].next();
    return true;
  }

  /** @throws what one of them failed with */
  async finish(): Promise<void> {
    this.isOver = true;
    for (const one of this.running) one.send({ stop: true });
    await Promise.all(this.running.map(({ result }) => result));
  }

  async stop(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.running.map((one) => one.kill()));
  }

  private start(index: number): WorkerProcess {
    const script = join(__dirname, 'histories.worker.ts');
    return startWorker({ script, data: this.job, index, timeoutMs: 1_800_000 });
  }
}

/**
 * One server with faults of its network, of the processes, of itself and of its clock.
 * @throws Error where its clock has to step and cannot
 */
export async function soakHistories({
  seed,
  seconds,
  leapMs = 0,
}: HistoriesOptions): Promise<HistoriesReport> {
  const recording = startRecording();
  const random = seededRandom(seed);
  const clock = leapMs > 0 ? makeSteppedClock() : undefined;
  if (leapMs > 0 && !clock) throw new Error('clocks are stepped on Linux only, with a C compiler');
  const own = async <T>(start: () => Promise<T>): Promise<T> => (clock ? clock.with(start) : start());
  // Synced before it is answered: what was acknowledged survives a crash.
  const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
  const server = await own(() => startRedisServer({ binary: process.env['TEST_REDIS_BINARY'], args }));
  const admin = new Redis(server.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
  // It is restarted on purpose.
  admin.on('error', () => {});
  const proxies = await Promise.all(
    Array.from({ length: WORKERS }, () => startFaultProxy({ target: server })),
  );
  const connection = proxies.map(({ url }) => url);
  const workers = new Workers({ connection, callers: CALLERS, groups: GROUPS, seed, beganUs: nowUs() });
  const startedAt = performance.now();
  try {
    if (clock) await seeStep(clock, admin);
    await workers.ready();
    const seldom: Record<string, FaultKind> = {
      [RESTART]: {
        times: 0,
        inject: async () => {
          await server.kill();
          await own(() => server.restart());
          return true;
        },
      },
      'kill -9 of a process': {
        times: 0,
        inject: () => workers.kill(integerBetween(random, 0, WORKERS - 1)),
      },
    };
    const steps: Record<string, FaultKind> = clock
      ? {
          'step of the clock': { times: 15, inject: async () => stepClock(clock, random) },
          'clock forth and back before a late copy': {
            times: 8,
            inject: () => leapAroundCopy(clock, leapMs, proxies, random),
          },
        }
      : {};
    const kinds = { ...serverFaults(server, admin), ...networkFaults(proxies, random), ...steps, ...seldom };
    const faults = new FaultInjector<string>(kinds, random);
    const names = Object.keys(seldom);
    const endsAt = performance.now() + seconds * 1_000;
    let seldomAt = performance.now() + SELDOM_MS.least;
    const haveAllStruck = (): boolean => faults.counts.every(({ struck }) => struck > 0);
    for (let n = 0; performance.now() < endsAt || !haveAllStruck();) {
      if (performance.now() < seldomAt) await faults.injectNext();
      else {
        await faults.inject(names[n++ % names.length]!);
        seldomAt = performance.now() + integerBetween(random, SELDOM_MS.least, SELDOM_MS.most);
      }
      await sleep(integerBetween(random, PACE.least, PACE.most));
    }
    await workers.finish();
    await faults.end(LATE_MS);
    const elapsedMs = performance.now() - startedAt;
    await readAtTheEnd(admin, recording.read());
    return {
      history: historyOf(recording),
      faults: faults.counts,
      elapsedMs,
    };
  } finally {
    await workers.stop();
    admin.disconnect();
    await Promise.all(proxies.map((proxy) => proxy.stop()));
    await server.stop();
    clock?.remove();
  }
}

function networkFaults(proxies: readonly FaultProxy[], random: () => number): Record<string, FaultKind> {
  const proxy = (): FaultProxy => proxies[integerBetween(random, 0, proxies.length - 1)]!;
  const on = (name: string) => ({ match: (command: RedisCommand): boolean => command.name === name });
  const kinds: Record<string, FaultKind> = {
    'network interrupted': {
      times: 2,
      inject: async () => {
        const one = proxy();
        one.pause();
        await sleep(integerBetween(random, 30, LATE_MS));
        one.resume();
        return true;
      },
    },
  };
  for (const name of ['EXEC', 'EVALSHA']) {
    kinds[`${name}: reply lost`] = { times: 8, inject: () => whenMet(proxy().loseReplies(on(name))) };
    kinds[`cut before ${name}`] = { times: 4, inject: () => whenMet(proxy().cutBeforeServer(on(name))) };
    kinds[`${name} ${LATE_MS} ms late`] = {
      times: 8,
      inject: () => whenDelivered(proxy().deliverLate(LATE_MS, on(name))),
    };
    kinds[`${name} held up`] = {
      times: 3,
      inject: () => whenMet(proxy().delay({ ...on(name), requestMs: integerBetween(random, 30, LATE_MS) })),
    };
  }
  return kinds;
}

/**
 * From one to any other is less than the minute by which a copy's evidence outlives its time limit.
 */
const OFFSETS_MS = [0, 0, 250, -250, 5_000, -5_000, 25_000, -25_000];

function stepClock(clock: SteppedClock, random: () => number): true {
  clock.setOffset(OFFSETS_MS[integerBetween(random, 0, OFFSETS_MS.length - 1)]!);
  return true;
}

/** The clock goes forth and comes back while a copy of a request is still to arrive. */
function leapAroundCopy(
  clock: SteppedClock,
  leapMs: number,
  proxies: readonly FaultProxy[],
  random: () => number,
): SetFault {
  const name = random() < 0.5 ? 'EXEC' : 'EVALSHA';
  const proxy = proxies[integerBetween(random, 0, proxies.length - 1)]!;
  const fault = proxy.deliverLate(LATE_MS, { match: (command) => command.name === name });
  void (async () => {
    await fault.triggered;
    await sleep(LATE_MS / 3);
    clock.setOffset(leapMs);
    await sleep(LATE_MS / 3);
    clock.setOffset(0);
  })();
  return whenDelivered(fault);
}

/** A Cluster whose slots move, and whose masters are replaced in an orderly way or killed. */
export async function soakClusterHistories(options: ClusterHistoriesOptions): Promise<HistoriesReport> {
  const { seed, durability } = options;
  const recording = startRecording();
  const random = seededRandom(seed);
  // Long enough that a busy machine makes no node look dead.
  const cluster = await startCluster({ nodeTimeoutMs: 5_000 });
  const client = cluster.connect();
  const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
  const job = {
    connection: { nodes },
    callers: CALLERS,
    groups: GROUPS_ON_CLUSTER,
    durability,
    seed,
    beganUs: nowUs(),
  };
  const workers = new Workers(job);
  const startedAt = performance.now();
  try {
    await workers.ready();
    const faults = new ClusterFaults(cluster, random);
    const counts = await injectOnCluster(faults, workers, options, random);
    await workers.finish();
    const elapsedMs = performance.now() - startedAt;
    await readAtTheEnd(client, recording.read());
    const losses = durability ? [] : lossesOf(faults.events);
    return {
      history: historyOf(recording, losses),
      faults: counts,
      elapsedMs,
    };
  } finally {
    await workers.stop();
    client.disconnect();
    await cluster.stop();
  }
}

async function injectOnCluster(
  faults: ClusterFaults,
  workers: Workers,
  { moves, failovers, kills, durability }: ClusterHistoriesOptions,
  random: () => number,
): Promise<FaultCount[]> {
  // A slot holds one generation of a group's keys only as long as that lasts: the tag is what
  // moves.
  const group = (): string => `{group:${integerBetween(random, 0, GROUPS_ON_CLUSTER - 1)}}`;
  const few = Math.ceil((moves + failovers + kills) / 3);
  // With durability calls wait for the replica, and only a few are answered.
  const transactions = durability ? 0 : 20;
  let killed = 0;
  // A fault at a node signals its failure by an error.
  const done = async (fault: Promise<void>): Promise<boolean> => fault.then(() => true);
  const kinds: Record<string, FaultKind> = {
    'slot moved': { times: moves, inject: () => done(faults.moveSlot(group())) },
    'replica promoted': { times: failovers, inject: () => done(faults.failOver()) },
    'master killed': {
      times: kills,
      inject: () => done(faults.kill({ of: group(), cutOff: killed++ % 2 === 0, transactions })),
    },
    'SCRIPT FLUSH': { times: few, inject: () => faults.flushScripts() },
    'CLIENT KILL': { times: few, inject: () => faults.killClients() },
    'kill -9 of a process': {
      times: few,
      inject: () => workers.kill(integerBetween(random, 0, WORKERS - 1)),
    },
  };
  const injector = new FaultInjector(kinds, random);
  // One pack: each as many times as it is to be.
  const all = Object.values(kinds).reduce((sum, { times }) => sum + times, 0);
  for (let n = 0; n < all; n++) {
    await sleep(integerBetween(random, 200, 800));
    await injector.injectNext();
  }
  await sleep(1_000);
  return injector.counts;
}

/** The last read of every key that the history names: each slot's lists by one EXEC. */
async function readAtTheEnd(client: Redis | Cluster, history: readonly Operation[]): Promise<void> {
  const groups = new Map<string, Set<string>>();
  for (const { model, key, args } of history) {
    if (model === 'list-append')
      for (const [, list] of args as Step[]) {
        const tag = list.slice(0, list.indexOf(':list:'));
        groups.set(tag, (groups.get(tag) ?? new Set()).add(list));
      }
    else if (key !== undefined) groups.set(key, new Set());
  }
  for (const [name, lists] of groups) {
    const startUs = nowUs();
    if (lists.size > 0) {
      const multi = client.multi();
      for (const key of lists) multi.lrange(key, 0, -1);
      const replies = (await multi.exec())! as [null, string[]][];
      const steps = [...lists].map((key, i): Step => ['read', key, replies[i]![1]]);
      noteOperation({ name: 'last read', model: 'list-append', args: steps }, steps, startUs);
      continue;
    }
    const value = await client.get(name);
    const isCounter = name.includes(':counter:');
    const asked = { name: 'read', key: name, args: [] } as const;
    if (isCounter)
      noteOperation({ ...asked, model: 'counter' }, value === null ? null : Number(value), startUs);
    else noteOperation({ ...asked, model: 'register' }, value, startUs);
  }
}
