import { useRedis } from '../support/redis.js';
import { startWorker } from '../support/workers.js';
import type { NoticeJob } from './shutdown-notice.worker.js';

describe('an application that gets no SIGTERM handling', () => {
  const redis = useRedis();

  const warningsOf = async (job: Omit<NoticeJob, 'url'>): Promise<string[]> =>
    await startWorker<string[]>({
      script: require.resolve('./shutdown-notice.worker.ts'),
      data: { url: redis.server.url, ...job },
    }).result;

  // Each waits for a process of its own.
  it.concurrent.each(['HTTP', 'messages', 'jobs'] as const)(
    '[NEST-6] prints once at boot how to add it: %s',
    async (kind) => {
      const warnings = await warningsOf({ kind, hooks: 'none' });
      expect(warnings).toEqual([
        expect.stringContaining('Call app.enableShutdownHooks() before app.listen()') as string,
      ]);
      expect(warnings[0]).not.toContain('\n');
    },
  );

  it.concurrent.each<Omit<NoticeJob, 'url'>>([
    { kind: 'HTTP', hooks: 'before listen' },
    { kind: 'HTTP', hooks: 'after listen' },
    { kind: 'HTTP', hooks: 'own' },
    { kind: 'script', hooks: 'none' },
    { kind: 'initialised only', hooks: 'none' },
    { kind: 'HTTP', hooks: 'none', env: { NODE_ENV: 'test' } },
    { kind: 'HTTP', hooks: 'none', env: { AWS_LAMBDA_FUNCTION_NAME: 'orders' } },
  ])('[NEST-6] prints nothing when it needs none: %j', async (job) => {
    expect(await warningsOf(job)).toEqual([]);
  });
});
