import { Redis } from 'ioredis';
import { worker } from '../support/worker.js';

/** A span of time on the clock of `process.hrtime`, in milliseconds. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

export interface Latency {
  readonly samples: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/**
 * Another client of the same Redis: asks it something small over and over, and tells how long the
 * answers took within given spans.
 */
worker<{ url: string }>(async ({ data, next, send }) => {
  const client = new Redis(data.url);
  await client.set('probe', 'x');
  const clock = (): number => Number(process.hrtime.bigint()) / 1e6;
  const samples: { at: number; tookMs: number }[] = [];
  let stopped = false;
  const probing = (async () => {
    while (!stopped) {
      const at = clock();
      await client.get('probe');
      samples.push({ at, tookMs: clock() - at });
    }
  })();
  for (;;) {
    const order = await next<{ spans: Span[] } | { stop: true }>();
    if ('stop' in order) break;
    const within = samples
      .filter(({ at, tookMs }) => order.spans.some(({ from, to }) => at + tookMs >= from && at <= to))
      .map(({ tookMs }) => tookMs)
      .toSorted((a, b) => a - b);
    const quantile = (q: number): number => within[Math.max(0, Math.ceil(q * within.length) - 1)] ?? 0;
    send({
      samples: within.length,
      p50Ms: quantile(0.5),
      p99Ms: quantile(0.99),
      maxMs: quantile(1),
    } satisfies Latency);
  }
  stopped = true;
  await probing;
  client.disconnect();
});
