import type { Redis } from 'ioredis';
import { measure, type Contestant, type Measured, type Settings } from './harness.js';

/** Name of the contestant that is this library. */
export const OURS = 'nestjs-atomic-redis';

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

/** The same contestants at several numbers of callers. */
export interface Comparison extends Omit<Workload, 'run'> {
  readonly callers: readonly number[];
  /** Name of the contestant that is the fewest commands by hand. */
  readonly floor: string;
  start(bench: Bench): Promise<readonly Contestant[]>;
}

export function comparison(subject: Comparison): Workload {
  const { name, title, about, bars, callers } = subject;
  return {
    name,
    title,
    about,
    bars,
    async run(bench) {
      const tables = [];
      for (const count of callers) {
        await bench.admin.flushall();
        const contestants = await subject.start(bench);
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
