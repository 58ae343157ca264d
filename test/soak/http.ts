import { startRedisServer } from '../../lib/testing/index.js';
import { renderProperty, runProperty } from '../idempotency/http-property/run.js';

export interface HttpSoakReport {
  readonly cases: number;
  readonly failed: number;
  readonly stray: number;
  readonly elapsedMs: number;
  /** The error, in words. */
  readonly wrong: string;
}

/** Performs random cases of the HTTP property, half of them on each platform. */
export async function soakHttp({ cases, seed }: { cases: number; seed: number }): Promise<HttpSoakReport> {
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
  const from = performance.now();
  try {
    const platforms = ['express', 'fastify'] as const;
    const results = await Promise.all(
      platforms.map((platform, index) => {
        const half = Math.floor((cases + index) / 2);
        const options = { url: server.url, seed: seed + index, cases: half, abreast: 8, enough: 200 };
        return runProperty(platform, options, 1_800_000);
      }),
    );
    const sum = (of: (result: (typeof results)[number]) => number) =>
      results.reduce((total, result) => total + of(result), 0);
    return {
      cases: sum((result) => result.cases),
      failed: sum((result) => result.failed),
      stray: sum(({ stray }) => stray.length),
      elapsedMs: performance.now() - from,
      wrong: results
        .map((result, index) => renderProperty(platforms[index]!, result))
        .join('\n')
        .trim(),
    };
  } finally {
    await server.stop();
  }
}
