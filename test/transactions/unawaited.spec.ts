import { join } from 'node:path';
import { startWorker } from '../support/workers.js';
import { useRedis } from '../support/redis.js';
import { scenarios } from './unawaited-scenarios.js';

describe('a process whose transactions leave promises behind', () => {
  const redis = useRedis();

  it.each(Object.keys(scenarios))('[TX-18] lives on after %s', async (name) => {
    const script = join(__dirname, 'unawaited.worker.ts');
    const { result, kill } = startWorker<string>({ script, data: { url: redis.server.url, name } });
    try {
      await expect(result).resolves.toEqual(expect.any(String));
    } finally {
      await kill();
    }
  });
});
