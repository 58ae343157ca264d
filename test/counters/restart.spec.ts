import type { CounterResult } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useRedis } from '../support/redis.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';

const addScript = {
  match: ({ name, args }: { name: string; args: readonly (string | Buffer)[] }): boolean =>
    name === 'EVALSHA' && args.some((arg) => String(arg).includes(',add,')),
};

describe('a process that is killed and started again', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  const workers: WorkerProcess[] = [];

  beforeEach(async () => (proxy = await startFaultProxy({ target: redis.server })));

  afterEach(async () => {
    await Promise.all(workers.splice(0).map((one) => one.kill()));
    await proxy.stop();
  });

  const start = (amount: number, timeoutMs: number): WorkerProcess<CounterResult> => {
    const started = startWorker<CounterResult>({
      script: require.resolve('./restart.worker.ts'),
      data: { url: proxy.url, amount, timeoutMs },
    });
    workers.push(started);
    return started;
  };

  const killedWhileAdding = async (amount: number, timeoutMs: number, lateMs: number) => {
    const late = proxy.deliverLate(lateMs, addScript);
    const first = start(amount, timeoutMs);
    await first.next();
    await late.triggered;
    await first.kill();
    return late;
  };

  it('[CT-3] [CT-4] gets its own answer, whenever the batch of its predecessor arrives', async () => {
    const late = await killedWhileAdding(100, 15_000, 100);
    const { value, applied } = await start(1, 15_000).result;
    expect(applied).toBe(1);
    expect([1, 101]).toContain(value);
    // In time, and its sender is gone: it may count, once.
    await late.delivered;
    expect(['1', '101']).toContain(await redis.client.get('n'));
  });

  it('[CT-3] is not disturbed by a batch of its predecessor that arrives past its time-out', async () => {
    const late = await killedWhileAdding(100, 200, 3_000);
    expect(await start(1, 15_000).result).toMatchObject({ value: 1, applied: 1 });
    expect(await late.delivered).toBe(true);
    expect(await redis.client.get('n')).toBe('1');
  });
});
