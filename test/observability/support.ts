import { Test, type TestingModule } from '@nestjs/testing';
import {
  AtomicRedis,
  AtomicRedisModule,
  type AtomicRedisEvent,
  type AtomicRedisOptions,
  type OccurrenceEvent,
  type TerminalEvent,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
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
   * What was told while `work` ran, once all of it has arrived, but for waits for a connection. Its
   * error is left alone.
   */
  during(work: () => unknown): Promise<AtomicRedisEvent[]>;
}

/**
 * A server behind a proxy, and applications on it whose events are listened to. Call it inside
 * `describe`.
 */
export function useObserved() {
  const server = useRedis();
  const modules: TestingModule[] = [];
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: server.server });
  });

  afterEach(async () => {
    await Promise.all(modules.splice(0).map((module) => module.close()));
    await proxy.stop();
  });

  return {
    server,
    get proxy() {
      return proxy;
    },
    start: async (options: Partial<AtomicRedisOptions> = {}): Promise<Observed> => {
      const module = await Test.createTestingModule({
        imports: [
          AtomicRedisModule.forRoot({
            connection: proxy.url,
            namespace: 'atomic:',
            shutdownTimeoutMs: 500,
            timeoutMs: 2_000,
            ...options,
          }),
        ],
      }).compile();
      module.useLogger(false);
      modules.push(module);
      await module.init();
      const redis = module.get(AtomicRedis);
      const events: AtomicRedisEvent[] = [];
      redis.events.subscribe((event) => events.push(event));
      const during = async (work: () => unknown): Promise<AtomicRedisEvent[]> => {
        // Whatever was told before this is delivered before it.
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
