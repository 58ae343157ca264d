import { join } from 'node:path';
import { useRedis } from './redis.js';
import type { SupportJob } from './support.worker.js';
import { runWorkers, startWorker, type WorkerProcess } from './workers.js';

const script = join(__dirname, 'support.worker.ts');
const start = (data: SupportJob, timeoutMs = 60_000) => startWorker({ script, data, timeoutMs });

describe('workers', () => {
  const redis = useRedis();
  let one: WorkerProcess | undefined;

  afterEach(() => one?.kill());

  it('run concurrently in processes of their own and return their results by index', async () => {
    const results = await runWorkers<{ index: number; pid: number }>({
      script,
      count: 3,
      data: { task: 'add', url: redis.server.url } satisfies SupportJob,
    });
    expect(results.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(new Set([process.pid, ...results.map(({ pid }) => pid)]).size).toBe(4);
    expect(await redis.client.get('n')).toBe('150');
  });

  it('exchange messages, in order, also with a worker that was paused', async () => {
    one = start({ task: 'echo' });
    one.send({ a: 1 });
    expect(await one.next()).toEqual({ echo: { a: 1 } });
    one.pause();
    one.send({ b: 1 });
    one.send({ b: 2 });
    one.resume();
    expect(await one.next()).toEqual({ echo: { b: 1 } });
    expect(await one.next()).toEqual({ echo: { b: 2 } });
  });

  it('report an error of the body with its stack in the TypeScript file', async () => {
    one = start({ task: 'throw' });
    await expect(one.result).rejects.toThrow(/RangeError: thrown on purpose[^]*support\.worker\.ts:\d+/);
    expect(await one.exited).toEqual({ code: 0, signal: null });
  });

  it('report a crash as an error with the end of stderr', async () => {
    one = start({ task: 'crash' });
    await expect(one.result).rejects.toThrow(/ended with status 7 without a result\nlast words/);
    await expect(one.next()).rejects.toThrow('status 7');
  });

  it('can be killed, paused or not', async () => {
    one = start({ task: 'echo' });
    one.send({});
    await one.next();
    one.pause();
    const waiting = one.next();
    // oxlint-disable-next-line jest/valid-expect -- awaited below, after the kill that makes it come true
    const rejected = expect(waiting).rejects.toThrow('SIGKILL');
    await one.kill();
    await rejected;
    expect(await one.exited).toEqual({ code: null, signal: 'SIGKILL' });
  });

  it('are killed when they take too long', async () => {
    one = start({ task: 'hang' }, 500);
    await expect(one.result).rejects.toThrow('was killed after 500 ms');
  });

  it('report a file that does not compile or exist', async () => {
    one = startWorker({ script: join(__dirname, 'missing.worker.ts') });
    await expect(one.result).rejects.toThrow('Cannot find module');
  });
});
