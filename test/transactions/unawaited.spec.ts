import { join } from 'node:path';
import { useRedis } from '../support/redis.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import { scenarios } from './unawaited-scenarios.js';

describe('a process whose transactions leave promises behind', () => {
  const redis = useRedis();
  let living: WorkerProcess | undefined;
  let isInOrder = true;

  /** The answer of the process that has survived the scenarios before, or of a new one. */
  const ask = async (name: string): Promise<string> => {
    const script = join(__dirname, 'unawaited.worker.ts');
    living ??= startWorker({ script, data: { url: redis.server.url }, timeoutMs: 600_000 });
    isInOrder = false;
    living.send({ name });
    const { name: answered, told } = await living.next<{ name: string; told: string }>();
    if (answered !== name) throw new Error(`"${name}" was asked for, and "${answered}" is answered`);
    isInOrder = true;
    return told;
  };

  /** Also after a time-out, when a late answer would be taken for that of the next scenario. */
  afterEach(async () => {
    if (isInOrder) return;
    await living?.kill();
    living = undefined;
    isInOrder = true;
  });

  /** A rejection that the last scenario left behind may end the process late. */
  afterAll(async () => {
    try {
      if (living) await ask('none');
    } finally {
      await living?.kill();
    }
  });

  it.each(Object.keys(scenarios))('[TX-18] survives %s', async (name) => {
    expect(await ask(name)).toEqual(expect.any(String));
  });
});
