import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import { slotKeysOf } from './permits-app.js';
import type { ContendersJob, ContendersReport } from './permits.worker.js';

const LEASE_MS = 1_500;
const PROCESSES = 3;
/** By the soak: PERMIT_CONTENDERS=67 PERMIT_FAULTS=100 for the whole. */
const CONTENDERS = Number(process.env['PERMIT_CONTENDERS'] ?? 10);
const FAULTS = Number(process.env['PERMIT_FAULTS'] ?? 4);

describe('a permit under contenders whose holders are stopped and killed', () => {
  const redis = useRedis();
  const workers = new Map<number, WorkerProcess<ContendersReport>>();

  afterAll(async () => {
    await Promise.all([...workers.values()].map((one) => one.kill()));
  });

  const start = async (index: number): Promise<void> => {
    const data: ContendersJob = { url: redis.server.url, contenders: CONTENDERS, leaseMs: LEASE_MS };
    const script = require.resolve('./permits.worker.ts');
    const timeoutMs = 120_000 + FAULTS * 10_000;
    const one = startWorker<ContendersReport>({ script, data, index, timeoutMs });
    workers.set(index, one);
    await one.next();
  };

  const entries = (): Promise<number> => redis.client.llen('log');
  /** Waits until holders have written, and returns the process of the last. */
  const progress = async (count: number): Promise<number> => {
    const before = await entries();
    await waitFor('holders to write', async () => (await entries()) >= before + count);
    return Number(await redis.client.get('holder'));
  };

  it(
    '[PM-6] [PM-3] lets no write of a stale holder land, and serves every other caller',
    async () => {
      await Promise.all(Array.from({ length: PROCESSES }, (_, index) => start(index)));
      let stopped = 0;
      for (let fault = 0; fault < FAULTS; fault++) {
        const index = await progress(10);
        const one = workers.get(index)!;
        if (fault % 2 === 0) {
          await redis.client.del('stopped');
          one.send({ end: false });
          await waitFor('it to stop', async () => (await redis.client.exists('stopped')) === 1);
          stopped++;
          // Once its lease has ended, others continue.
          await progress(4);
          const refused = Number(await redis.client.get('refused'));
          one.resume();
          await waitFor(
            'its write to be refused',
            async () => Number(await redis.client.get('refused')) > refused,
          );
        } else {
          await one.kill();
          await progress(4);
          await start(index);
        }
      }
      await progress(20);
      for (const one of workers.values()) one.send({ end: true });
      const reports = await Promise.all([...workers.values()].map(({ result }) => result));

      const fences = (await redis.client.lrange('log', 0, -1)).map(Number);
      // Once a holder has written, none before it does.
      expect(fences).toEqual(fences.toSorted((a, b) => a - b));
      // No fence was given twice: each holder writes twice at the most.
      const writes = new Map<number, number>();
      for (const fence of fences) writes.set(fence, (writes.get(fence) ?? 0) + 1);
      expect(Math.max(...writes.values())).toBeLessThanOrEqual(2);
      expect(Number(await redis.client.get('last'))).toBe(fences.at(-1));
      expect(reports.reduce((sum, { served }) => sum + served, 0)).toBeGreaterThan(PROCESSES * CONTENDERS);
      for (const { longestWaitMs } of reports) expect(longestWaitMs).toBeLessThan(40_000);
      expect(await slotKeysOf(redis.client)).toEqual([]);
      // Each stopped holder tried to write once it was resumed.
      const refused = Number(await redis.client.get('refused'));
      expect(refused).toBeGreaterThanOrEqual(stopped);
      console.info(`${fences.length} enforced writes, ${stopped} holders stopped, ${refused} writes refused`);
    },
    180_000 + FAULTS * 10_000,
  );
});
