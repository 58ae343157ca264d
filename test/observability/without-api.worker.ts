/* oxlint-disable no-underscore-dangle -- Node has no public hook for require() */
import Module from 'node:module';
import type { AtomicRedisEvent } from '../../lib/index.js';
import { worker } from '../support/worker.js';

type Resolve = (request: string, ...rest: unknown[]) => string;
const loader = Module as unknown as { _resolveFilename: Resolve };
const { _resolveFilename: resolveFilename } = loader;

/** Uses the library where `@opentelemetry/api` is not installed. */
worker<{ url: string }>(async ({ data }) => {
  loader._resolveFilename = function (this: unknown, request, ...rest) {
    if (request.startsWith('@opentelemetry/')) throw new Error(`Cannot find package '${request}'`);
    return resolveFilename.call(this, request, ...rest);
  };
  const { Test } = await import('@nestjs/testing');
  const { AtomicRedis, AtomicRedisModule } = await import('../../lib/index.js');
  const app = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection: data.url, namespace: 'atomic:' })],
  }).compile();
  app.useLogger(false);
  await app.init();
  const redis = app.get(AtomicRedis);
  const events: AtomicRedisEvent[] = [];
  redis.events.subscribe((event) => events.push(event));
  await redis.counters.add('n', 3);
  await redis.idempotency.run('k', () => redis.transactions.run(['k'], (tx) => void tx.write.incr('k')));
  await app.close();
  const problem = await import('../../lib/opentelemetry/index.js').then(() => 'none', String);
  return { events: events.length, problem: problem.replace(/^Error: /, '') };
});
