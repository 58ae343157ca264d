import { AtomicRedisEvents } from 'nestjs-atomic-redis';
import { Observer } from '../../lib/observability/observer.js';
import { startWorker } from '../support/workers.js';
import { useRedis } from '../support/redis.js';

describe('without listeners', () => {
  const observer = (events = new AtomicRedisEvents()) =>
    new Observer(events, 'test', { namespace: 'atomic:' });

  it('[OBS-5] the work is called directly, and no object is created for its event', () => {
    const answer = Promise.resolve(1);
    const never = jest.fn();
    const one = observer();
    const report = { changed: never, details: never };
    expect(one.operation('counters.add', () => answer, report)).toBe(answer);
    expect(one.roundTrip('EVALSHA', () => answer)).toBe(answer);
    const operation = one.begin('idempotency.run');
    operation.end(never);
    expect(one.begin('idempotency.run')).toBe(operation);
    expect(operation.within(() => answer)).toBe(answer);
    expect(never).not.toHaveBeenCalled();
  });

  it('[OBS-5] a listener receives events of operations that begin after it, until the last listener has gone', async () => {
    const events = new AtomicRedisEvents();
    const one = observer(events);
    const before = one.begin('idempotency.run');
    const heard: string[] = [];
    const unsubscribe = events.subscribe(({ type }) => heard.push(type));
    before.end(() => ({ type: 'idempotency.claim-failed', operation: '', record: '' }));
    await one.operation('counters.get', async () => 1);
    const after = one.begin('idempotency.run');
    await new Promise((resolve) => setImmediate(resolve));
    unsubscribe();
    after.end(() => ({ type: 'idempotency.claim-failed', operation: '', record: '' }));
    await new Promise((resolve) => setImmediate(resolve));
    expect(heard).toEqual(['counters.get']);
    expect(one.isWatching).toBe(false);
  });
});

describe('without the package @opentelemetry/api', () => {
  const redis = useRedis();

  it('[OBS-6] everything works but its own entry point, which names the missing package', async () => {
    const { result } = startWorker<{ events: number; problem: string }>({
      script: require.resolve('./without-api.worker.ts'),
      data: { url: redis.server.url },
    });
    expect(await result).toEqual({
      events: 3,
      problem: expect.stringMatching(/^Cannot find .*@opentelemetry\/api/),
    });
  });
});
