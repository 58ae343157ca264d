import type { Redis } from 'ioredis';
import type { Contestant, Measured, Settings } from './harness.js';

/** What ours has to reach beside another contestant of the same run. */
export interface Bar {
  readonly contestant: string;
  readonly against: string;
  /** Ratio of the medians of operations per second. */
  readonly least: number;
  /** Only at these numbers of callers. Default: at all. */
  readonly at?: readonly number[];
}

/** A server of the benchmark's own, emptied before each workload. */
export interface Bench {
  readonly url: string;
  readonly port: number;
  readonly admin: Redis;
  readonly settings: Settings;
  /** The short form: it has to run, and measures nothing worth reading. */
  readonly isShort: boolean;
}

/** A line of what a workload found that is not a rate. */
export interface Finding {
  readonly what: string;
  readonly value: string;
  /** Whether it is within its bar; undefined where there is none. */
  readonly reached?: boolean;
}

export interface Result {
  readonly tables: readonly { readonly callers: number; readonly measured: readonly Measured[] }[];
  readonly findings?: readonly Finding[];
}

export interface Workload {
  readonly name: string;
  readonly title: string;
  /** What one operation is, and what each contestant does for it. */
  readonly about: string;
  readonly bars: readonly Bar[];
  run(bench: Bench): Promise<Result>;
}

/** Of a workload that is the same contestants at several numbers of callers. */
export function comparison(
  description: Omit<Workload, 'run'> & {
    readonly callers: readonly number[];
    start(bench: Bench): Promise<readonly Contestant[]>;
  },
  measure: (
    contestants: readonly Contestant[],
    callers: number,
    admin: Redis,
    settings: Settings,
  ) => Promise<Measured[]>,
): Workload {
  const { callers, start, ...rest } = description;
  return {
    ...rest,
    async run(bench) {
      const tables = [];
      for (const count of callers) {
        await bench.admin.flushall();
        const contestants = await start(bench);
        try {
          tables.push({
            callers: count,
            measured: await measure(contestants, count, bench.admin, bench.settings),
          });
        } finally {
          await Promise.all(contestants.map((contestant) => contestant.close()));
        }
      }
      return { tables };
    },
  };
}
