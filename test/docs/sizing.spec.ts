import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AtomicRedis, type IdempotencyService, type IdempotentRun } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

const STATED =
  /results of 50 bytes: (\d+) bytes for its record, (\d+) for its steps and (\d+) for each of them, and up to (\d+) for its place in the index/;

/** By this part a server, or an operation with another name, may differ from what the page says. */
const TOLERANCE = 0.15;

/** 50 bytes of JSON. */
const RESULT = 'x'.repeat(48);

describe('docs/sizing.md', () => {
  const boot = useApp();
  const redis = useRedis();

  const usage = async (pattern: string): Promise<number> => {
    const [key] = await redis.client.keys(pattern);
    return (await redis.client.call('MEMORY', 'USAGE', key!, 'SAMPLES', '0')) as number;
  };

  /** Runs with steps that fail, and are not called again. */
  const interrupt = async (idempotency: IdempotencyService, runs: number, steps: number): Promise<void> => {
    await redis.client.flushall();
    const work = async (run: IdempotentRun): Promise<never> => {
      for (let i = 0; i < steps; i++) await run.step(`step-${i}`, () => RESULT);
      throw new Error('on purpose');
    };
    const options = { operation: 'POST /orders/:id/payment', fingerprint: 'a', evidence: 'a' };
    await Promise.allSettled(
      Array.from({ length: runs }, (_, i) => idempotency.run(`key ${i}`, work, options)),
    );
  };

  it('says how much memory the steps of a run take', async () => {
    const page = readFileSync(join(__dirname, '../../docs/sizing.md'), 'utf8').replace(/\s+/g, ' ');
    const [record, base, each, place] = STATED.exec(page)!.slice(1).map(Number) as [
      number,
      number,
      number,
      number,
    ];
    const { idempotency } = (await boot({ connection: redis.server.url })).get(AtomicRedis);
    const found: [string, number, number][] = [];
    for (const steps of [1, 10, 50]) {
      await interrupt(idempotency, 1, steps);
      found.push([`the record with ${steps}`, record, await usage('atomic:idempotency:*')]);
      found.push([`${steps} steps`, base + steps * each, await usage('atomic:steps:*')]);
    }
    const places: number[] = [];
    // Beyond 128 entries, Redis keeps an index in another form.
    for (const runs of [128, 129, 513]) {
      await interrupt(idempotency, runs, 1);
      places.push((await usage('atomic:held:index')) / runs);
    }
    found.push(['the dearest place in the index', place, Math.max(...places)]);
    const isMeasured = (await redis.client.info('server')).includes('redis_version:7.0');
    const wrong = found.filter(([, stated, bytes]) => {
      const isLess = isMeasured && bytes < stated * (1 - TOLERANCE);
      return isLess || bytes > stated * (1 + TOLERANCE);
    });
    expect(wrong).toEqual([]);
  });
});
