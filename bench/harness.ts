import type { Redis } from 'ioredis';

/** One way to do a workload's operation. */
export interface Contestant {
  readonly name: string;
  /** @param n never the same twice */
  readonly op: (n: number) => Promise<unknown>;
  readonly close: () => Promise<void>;
}

export interface Settings {
  readonly rounds: number;
  readonly roundMs: number;
  readonly warmUpMs: number;
}

/** The measurements of one round. */
interface Sample {
  readonly opsPerSecond: number;
  /** CPU time per operation, in microseconds. */
  readonly clientCpuUs: number;
  readonly serverCpuUs: number;
  /**
   * The reads of the server from its sockets per operation: round trips, where a single caller
   * waits for each answer; less, where several share one.
   */
  readonly reads: number;
}

/** The median of several rounds, and the range that holds half of them. */
export interface Spread {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

/** The figures beside the rate, by the title of their column. */
export type Figure =
  | 'client CPU, µs/op'
  | 'server CPU, µs/op'
  | 'reads/op'
  | 'commands/op'
  | 'server busy'
  | 'added to a bare endpoint, µs'
  | 'p50, ms'
  | 'p99, ms';

export interface Measured {
  readonly name: string;
  readonly opsPerSecond: Spread;
  readonly figures: Partial<Readonly<Record<Figure, Spread>>>;
}

/**
 * Runs the contestants in turns, in another order each round, so that what else the machine does
 * falls on all of them alike.
 *
 * @param admin a connection of its own to the same server
 */
export async function measure(
  contestants: readonly Contestant[],
  concurrency: number,
  admin: Redis,
  { rounds, roundMs, warmUpMs }: Settings,
): Promise<Measured[]> {
  const samples = new Map<Contestant, Sample[]>(contestants.map((contestant) => [contestant, []]));
  for (const contestant of contestants) await runFor(warmUpMs, contestant, concurrency);
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < contestants.length; i++) {
      const contestant = contestants[(round + i) % contestants.length]!;
      // Not measured: caches and connections are the contestant's own again. A forced collection in
      // its place would take the types of its objects with it, and what was measured next would be
      // how fast its code is compiled again.
      await runFor(warmUpMs / 5, contestant, concurrency);
      samples.get(contestant)!.push(await sampleOf(contestant, concurrency, admin, roundMs));
    }
  }
  return contestants.map((contestant) => ({
    name: contestant.name,
    ...spreadsOf(samples.get(contestant)!),
  }));
}

async function sampleOf(
  contestant: Contestant,
  concurrency: number,
  admin: Redis,
  roundMs: number,
): Promise<Sample> {
  const before = await serverStats(admin);
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const operations = await runFor(roundMs, contestant, concurrency);
  const seconds = (performance.now() - startedAt) / 1_000;
  const cpu = process.cpuUsage(cpuBefore);
  const after = await serverStats(admin);
  return {
    opsPerSecond: operations / seconds,
    clientCpuUs: (cpu.user + cpu.system) / operations,
    serverCpuUs: ((after.cpuSeconds - before.cpuSeconds) * 1e6) / operations,
    // The last question itself was read too.
    reads: Math.max(0, after.reads - before.reads - 1) / operations,
  };
}

let sequence = 0;

/** @returns how many operations were done */
async function runFor(ms: number, contestant: Contestant, concurrency: number): Promise<number> {
  const end = performance.now() + ms;
  let operations = 0;
  const caller = async (): Promise<void> => {
    while (performance.now() < end) {
      await contestant.op(sequence++);
      operations++;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, caller));
  return operations;
}

export async function serverStats(admin: Redis): Promise<{ cpuSeconds: number; reads: number }> {
  const [cpu, stats] = await Promise.all([admin.info('cpu'), admin.info('stats')]);
  return {
    cpuSeconds: field(cpu, 'used_cpu_user') + field(cpu, 'used_cpu_sys'),
    reads: field(stats, 'total_reads_processed'),
  };
}

const field = (info: string, name: string): number =>
  Number(new RegExp(`^${name}:(.*)$`, 'm').exec(info)?.[1]);

function spreadsOf(samples: readonly Sample[]): Omit<Measured, 'name'> {
  const of = (name: keyof Sample): Spread => spreadOf(samples.map((sample) => sample[name]));
  return {
    opsPerSecond: of('opsPerSecond'),
    figures: {
      'client CPU, µs/op': of('clientCpuUs'),
      'server CPU, µs/op': of('serverCpuUs'),
      'reads/op': of('reads'),
    },
  };
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (fraction: number): number => {
    const index = (sorted.length - 1) * fraction;
    const below = sorted[Math.floor(index)]!;
    return below + (sorted[Math.ceil(index)]! - below) * (index % 1);
  };
  return { median: at(0.5), low: at(0.25), high: at(0.75) };
}
