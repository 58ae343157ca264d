import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { startRedisServer } from '../../lib/testing/index.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import type { Latency, Span } from './probe.worker.js';
import type { BuildOrder, BuildReport } from './shadow-swap.worker.js';

export interface ShadowSwapReport {
  /** By how much the building process's memory grew at the most. */
  readonly memoryMb: number;
  /** Values that readers saw, other than the whole old value and the whole new one. */
  readonly torn: readonly string[];
  readonly reads: number;
  /** At full speed, of the fastest round: what else the machine does only makes one slower. */
  readonly fieldsPerSecond: { readonly raw: number; readonly library: number };
  /** Latency of another client's GET. */
  readonly latency: {
    readonly idle: Latency;
    readonly rawBuild: Latency;
    readonly libraryBuild: Latency;
    /** Within 100 ms of the step that puts a paced build in the place of as large a value. */
    readonly librarySwap: Latency;
    readonly naiveRename: Latency;
  };
}

const KEY = 'catalog';
const AROUND_MS = 100;
const SETTLE_MS = 1_000;
/** After each round, so that what else the machine does counts here too. */
const IDLE_MS = 500;

/** Measures builds and swaps of one large hash, beside what one would write by hand. */
export async function measureShadowSwap(options: {
  fields: number;
  rounds: number;
  /** After each thousand fields of a paced build. */
  pauseMs: number;
}): Promise<ShadowSwapReport> {
  const { fields, rounds, pauseMs } = options;
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
  const start = (name: string) =>
    startWorker<void>({ script: join(__dirname, name), data: { url: server.url }, timeoutMs: 1_800_000 });
  const [builder, probe] = [start('shadow-swap.worker.ts'), start('probe.worker.ts')];
  const client = new Redis(server.url);
  const build = async (order: Omit<BuildOrder, 'fields'>): Promise<BuildReport> => {
    builder.send({ fields, ...order } satisfies BuildOrder);
    return await builder.next<BuildReport>();
  };
  try {
    // The old value; and the first build of a fresh process shows what memory it takes.
    const first = await build({ how: 'library', generation: 'v0', swaps: true });
    const memoryMb = (first.rssPeakBytes - first.rssBeforeBytes) / 1e6;
    const reader = readOn(client, fields);

    const idle: Span[] = [];
    const rest = async (): Promise<void> => {
      // Until what was freed in the background is gone.
      await sleep(SETTLE_MS);
      const from = clock();
      await sleep(IDLE_MS);
      idle.push({ from, to: clock() });
    };

    const spans: Record<'raw' | 'library', Span[]> = { raw: [], library: [] };
    for (let round = 0; round < rounds; round++) {
      for (const how of round % 2 ? (['library', 'raw'] as const) : (['raw', 'library'] as const)) {
        const { startedAt, builtAt } = await build({ how, generation: 'x', swaps: false });
        spans[how].push({ from: startedAt, to: builtAt });
        await rest();
      }
    }
    const speed = (how: 'raw' | 'library') =>
      Math.max(...spans[how].map(({ from, to }) => (fields * 1_000) / (to - from)));

    const swaps: Record<'raw' | 'library', Span[]> = { raw: [], library: [] };
    for (let round = 0; round < rounds; round++) {
      for (const how of ['library', 'raw'] as const) {
        const { swappedAt } = await build({ how, generation: `v${round}${how}`, pauseMs, swaps: true });
        swaps[how].push({ from: swappedAt - AROUND_MS, to: swappedAt + AROUND_MS });
        await rest();
      }
    }
    const { torn, reads } = await reader.stop();
    return {
      memoryMb,
      torn,
      reads,
      fieldsPerSecond: { raw: speed('raw'), library: speed('library') },
      latency: {
        idle: await latencyOf(probe, idle),
        rawBuild: await latencyOf(probe, spans.raw),
        libraryBuild: await latencyOf(probe, spans.library),
        librarySwap: await latencyOf(probe, swaps.library),
        naiveRename: await latencyOf(probe, swaps.raw),
      },
    };
  } finally {
    client.disconnect();
    await Promise.all([builder.kill(), probe.kill()]);
    await server.stop();
  }
}

const clock = (): number => Number(process.hrtime.bigint()) / 1e6;

async function latencyOf(probe: WorkerProcess, spans: readonly Span[]): Promise<Latency> {
  probe.send({ spans });
  return await probe.next<Latency>();
}

/**
 * Reads the live key now and then: its size and fields from all over it must belong to one value.
 */
function readOn(client: Redis, fields: number): { stop(): Promise<{ torn: string[]; reads: number }> } {
  const sample = Array.from({ length: 50 }, (_, i) => `field:${Math.floor((i * (fields - 1)) / 49)}`);
  const torn = new Set<string>();
  let reads = 0;
  let stopped = false;
  const reading = (async () => {
    while (!stopped) {
      const replies = await client
        .multi()
        .hlen(KEY)
        .hmget(KEY, ...sample)
        .exec();
      const [[, size], [, values]] = replies as [[null, number], [null, (string | null)[]]];
      const seen = [...new Set(values)];
      if (size !== fields || seen.length !== 1 || seen[0] === null)
        torn.add(`${size} fields of ${seen.join(', ')}`);
      reads++;
      // Not so often that it is what the probe measures.
      await sleep(2);
    }
  })();
  return {
    stop: async () => {
      stopped = true;
      await reading;
      return { torn: [...torn], reads };
    },
  };
}

/** The report as a table for people, and whether it is within the bounds. */
export function judgeShadowSwap(report: ShadowSwapReport): { table: string; isWithin: boolean } {
  const { memoryMb, torn, reads, fieldsPerSecond, latency } = report;
  const bounds: [what: string, value: number, bound: string, isWithin: boolean][] = [
    ['memory above start, MB', memoryMb, '< 100', memoryMb < 100],
    ['torn reads', torn.length, '= 0', torn.length === 0],
    ['throughput / raw HSET', ...atLeast(fieldsPerSecond.library / fieldsPerSecond.raw, 0.85)],
    ['p99 while building / raw HSET', ...atMost(latency.libraryBuild.p99Ms / latency.rawBuild.p99Ms, 1.2)],
    ['p99 at the swap / idle', ...atMost(latency.librarySwap.p99Ms / latency.idle.p99Ms, 3)],
  ];
  const table = [
    ...Object.entries(latency).map(
      ([name, { samples, p50Ms, p99Ms, maxMs }]) =>
        `${name.padEnd(14)} p50 ${ms(p50Ms)}  p99 ${ms(p99Ms)}  max ${ms(maxMs)}  of ${samples} GETs`,
    ),
    '',
    `naive RENAME: p99 / idle ${(latency.naiveRename.p99Ms / latency.idle.p99Ms).toFixed(1)}, longest ${ms(latency.naiveRename.maxMs)}`,
    `fields per second: raw ${Math.round(fieldsPerSecond.raw)}, library ${Math.round(fieldsPerSecond.library)}; reads ${reads}`,
    '',
    ...bounds.map(
      ([what, value, bound, isWithin]) =>
        `${what.padEnd(32)} ${value.toFixed(2).padStart(8)}  ${bound.padEnd(8)} ${isWithin ? 'ok' : 'NOT MET'}`,
    ),
    ...torn,
  ].join('\n');
  return { table, isWithin: bounds.every(([, , , isWithin]) => isWithin) };
}

const ms = (value: number): string => `${value.toFixed(3).padStart(8)} ms`;
const atLeast = (value: number, bound: number): [number, string, boolean] => [
  value,
  `>= ${bound}`,
  value >= bound,
];
const atMost = (value: number, bound: number): [number, string, boolean] => [
  value,
  `<= ${bound}`,
  value <= bound,
];
