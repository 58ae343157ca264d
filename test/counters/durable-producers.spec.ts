import type { TestingModule } from '@nestjs/testing';
import { CounterService, NotReplicatedError } from 'nestjs-atomic-redis';
import { CounterBatches, type CounterBatch } from '../../lib/counters/counter-batch.js';
import type { CounterCommand } from '../../lib/counters/counter-command.js';
import { DurableProducers } from '../../lib/pipelines/durable-producers.js';
import { Producer } from '../../lib/pipelines/producer.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { WorkInFlight } from '../../lib/runtime/work-in-flight.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { useApp } from '../support/app.js';
import { connectionTo } from '../support/library-connection.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

describe('the producers of additions that wait for replicas', () => {
  const boot = useApp();
  const redis = useRedis();

  describe('of a service', () => {
    let module: TestingModule;
    let counters: CounterService;

    beforeEach(async () => {
      module = await boot({ connection: redis.server.url, timeoutMs: 20_000 });
      counters = module.get(CounterService);
    });

    /** Without a replica it is made, and told not to be replicated. */
    const add = async (timeoutMs: number): Promise<void> => {
      const durability = { replicas: 1, timeoutMs };
      await expect(counters.add('n', 1, { durability })).rejects.toThrow(NotReplicatedError);
    };

    it('[CT-16] keep at most one state in Redis per concurrent call, however much the durabilities differ', async () => {
      for (let i = 1; i <= 20; i++) await add(i);
      // The next call is made before the one that was answered is known to be the last.
      expect((await redis.client.keys('atomic:producer:*')).length).toBeLessThanOrEqual(2);
      await Promise.all(Array.from({ length: 6 }, (_, i) => add(100 + i)));
      for (let i = 1; i <= 20; i++) await add(200 + i);
      expect((await redis.client.keys('atomic:producer:*')).length).toBeLessThanOrEqual(8);
      expect(await counters.get('n')).toBe(46);
    });
  });

  type CounterProducer = Producer<CounterCommand, CounterBatch>;

  it('[CT-16] are bounded in number, and never serve two durabilities at once', async () => {
    const connection = connectionTo(redis.server.url, 20_000);
    const inFlight = new WorkInFlight();
    const made: CounterProducer[] = [];
    const make = (): CounterProducer => {
      const how = { deduplicate: true, durability: undefined };
      const batches = new CounterBatches({ maxBatchSize: 512, undoWindowMs: 1_000 });
      made.push(new Producer(connection, new ScriptRunner(connection), inFlight, batches, how));
      return made.at(-1)!;
    };
    const producers = new DurableProducers(make);
    const lent = new Set<CounterProducer>();
    const add = (timeoutMs: number): Promise<unknown> => {
      const producer = producers.for({ replicas: 1, timeoutMs });
      lent.add(producer);
      return new Promise((resolve, reject) =>
        producer.perform({
          key: 'n',
          change: { kind: 'add', amount: 1, min: '', max: '', ttlMs: '', detail: 'n' },
          caller: { toResult: String, isChange: () => true, resolve, reject },
          deadline: Deadline.in(20_000),
          state: 'queued',
          isAlone: false,
        }),
      );
    };
    const round = async (): Promise<void> => {
      lent.clear();
      const adding = Promise.allSettled(Array.from({ length: 80 }, (_, i) => add(50 + i)));
      expect(lent.size).toBe(80);
      await adding;
      await waitFor('all to be idle', () => inFlight.inFlight === 0);
    };
    try {
      await connection.ready(Deadline.in(20_000));
      await round();
      expect(made).toHaveLength(80);
      await round();
      // 64 were kept.
      expect(made).toHaveLength(80 + 16);
      expect(await redis.client.get('n')).toBe('160');
    } finally {
      await connection.close();
    }
  });
});
