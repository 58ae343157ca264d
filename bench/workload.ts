import type { Redis } from 'ioredis';
import { measure, type Contestant, type Figure, type Measured, type Settings } from './harness.js';

/** Name of the contestant that is this library. */
export const OURS = 'nestjs-atomic-redis';

/**
 * The ratio that ours has to reach beside another contestant of the same run, by the ratio of the
 * medians.
 */
export type Bar = {
  readonly contestant: string;
  readonly against: string;
  /** Only at these numbers of callers. Default: at all. */
  readonly at?: readonly number[];
} & (
  | { readonly least: number }
  /** Set for a figure that is better the lower it is. */
  | { readonly figure: Figure; readonly most: number }
);

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
  /** True if it is within its bar; undefined without a bar. */
  readonly reached?: boolean;
}

export interface Table {
  readonly callers: number;
  /** Title of the first column. @default the number of callers */
  readonly title?: string;
  /** Title of the column of rates. @default 'ops/s' */
  readonly rate?: string;
  /** The contestant that the others' CPU time of the server is compared with. */
  readonly floor?: string;
  readonly measured: readonly Measured[];
}

export interface Result {
  readonly tables: readonly Table[];
  readonly findings?: readonly Finding[];
}

export interface Workload {
  readonly name: string;
  /** A name by which it is chosen together with others. */
  readonly group?: string;
  readonly title: string;
  /** Describes one operation, and each contestant's work for it. */
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
            floor: subject.floor,
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
