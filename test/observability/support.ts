import type { TestingModule } from '@nestjs/testing';
import { AtomicRedis, type AtomicRedisEvent, type AtomicRedisOptions } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import type { OccurrenceEvent, TerminalEvent } from '../../lib/observability/event-types.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

const OCCURRENCES: readonly string[] = [
  'lease.lost',
  'outcome.resolved',
  'pool.wait',
  'steps.unused',
] satisfies OccurrenceEvent['type'][];

export const isTerminal = (event: AtomicRedisEvent): event is TerminalEvent =>
  !OCCURRENCES.includes(event.type);

export interface Observed {
  readonly redis: AtomicRedis;
  readonly module: TestingModule;
  readonly events: AtomicRedisEvent[];
  /**
   * Returns the events of `work`, except waits for a connection, once all have arrived. Ignores its
   * error.
   */
  during(work: () => unknown): Promise<AtomicRedisEvent[]>;
}

/**
 * A server behind a proxy, and applications on it whose events are listened to. Call it inside
 * `describe`.
 */
export function useObserved() {
  const boot = useApp();
  const server = useRedis();
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: server.server });
  });

  afterEach(() => proxy.stop());

  return {
    server,
    get proxy() {
      return proxy;
    },
    start: async (options: Partial<AtomicRedisOptions> = {}): Promise<Observed> => {
      const module = await boot({
        connection: proxy.url,
        shutdownTimeoutMs: 500,
        timeoutMs: 2_000,
        ...options,
      });
      const redis = module.get(AtomicRedis);
      const events: AtomicRedisEvent[] = [];
      redis.events.subscribe((event) => events.push(event));
      const during = async (work: () => unknown): Promise<AtomicRedisEvent[]> => {
        // Earlier events are delivered before this one.
        const told = () => new Promise((resolve) => setImmediate(resolve));
        await told();
        const from = events.length;
        await Promise.resolve()
          .then(work)
          .catch(() => undefined);
        await told();
        // On a busy machine anything may have to wait for its first connection.
        return events.slice(from).filter(({ type }) => type !== 'pool.wait');
      };
      return { redis, module, events, during };
    },
  };
}
