import { setTimeout as sleep } from 'node:timers/promises';
import { Logger, type LoggerService } from '@nestjs/common';
import type { Cluster } from 'ioredis';
import {
  AtomicRedis,
  IdempotencyInFlightError,
  RedisUnavailableError,
  type HeldKey,
  type IdempotentRun,
} from 'nestjs-atomic-redis';
import { startCluster, type ClusterNode, type TestCluster } from '../support/cluster.js';
import { waitFor } from '../support/wait-for.js';
import { gate, useInstances } from './support.js';
import { stateOf } from '../support/idempotency-record.js';

const ODD_KEYS = [
  'plain',
  '{}',
  '{x}',
  'a{x}b',
  '}{',
  '*?[a-z]',
  'with spaces \t\n',
  'snow ☃ and 😀',
  'a NUL \0 inside',
  'x'.repeat(1_048_576),
];

const boom = (): never => {
  throw new Error('boom');
};

describe('idempotent runs on a Cluster', () => {
  let cluster: TestCluster;
  let client: Cluster;
  const instances = useInstances(() => ({
    connection: { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) },
    namespace: 'atomic:',
    idempotency: { timeoutMs: 10_000 },
  }));

  beforeAll(async () => {
    cluster = await startCluster();
    client = cluster.connect();
  });

  beforeEach(async () => {
    await Promise.all((await masters()).map((node) => node.client.flushall()));
  });

  afterAll(async () => {
    client?.disconnect();
    await cluster?.stop();
  });

  const masters = async (): Promise<ClusterNode[]> => {
    const owners = [0, 1, 2].map((i) => cluster.masterOf(Math.floor((i * 16_384) / 3)));
    return [...new Set(await Promise.all(owners))];
  };
  const records = async (): Promise<string[]> =>
    (await Promise.all((await masters()).map((node) => node.client.keys('*idempotency*'))))
      .flat()
      .filter((key) => !key.includes(':steps:'));

  it('[ID-5] accept any key, spread the keys over the slots, and show them to no one', async () => {
    const lines: string[] = [];
    const log = (...parts: unknown[]): void => void lines.push(parts.map(String).join(' '));
    const logger: LoggerService = { log, error: log, warn: log, debug: log, verbose: log, fatal: log };
    const { idempotency, events } = await instances.start();
    Logger.overrideLogger(logger);
    for (const key of ODD_KEYS) {
      const run = () => idempotency.run(key, () => 'ran', { scope: `of ${key}`, fingerprint: key });
      expect(await run()).toBe('ran');
      expect(await idempotency.run(key, () => 'again', { scope: `of ${key}`, fingerprint: key })).toBe('ran');
      // Provokes a log line: a result that cannot be kept, with its error.
      await idempotency.run(`${key} unkept`, () => 1n, { scope: key });
      expect(await idempotency.inspect(key, { scope: `of ${key}` })).toMatchObject({ state: 'completed' });
    }
    await waitFor('the events', () => events.length === 3 * ODD_KEYS.length);
    const found = await records();
    expect(found).toHaveLength(2 * ODD_KEYS.length);
    for (const record of found) expect(record).toMatch(/^atomic:idempotency:[\w-]{43}$/);
    const slots = await Promise.all(found.map((record) => cluster.slotOf(record)));
    expect(new Set(slots).size).toBeGreaterThan(ODD_KEYS.length);
    const owners = new Set(await Promise.all(slots.map(async (slot) => (await cluster.masterOf(slot)).id)));
    expect(owners.size).toBe(3);
    expect(lines.length).toBeGreaterThan(0);
    const seen = [...found, ...lines, JSON.stringify(events)].join('\n');
    for (const shown of ['snow', 'with spaces', '*?[', 'a{x}b', 'xxxx']) expect(seen).not.toContain(shown);
  });

  /**
   * Returns the number of runs of a key while `meanwhile` moves its record during the first run.
   */
  async function runsThrough(meanwhile: (record: string) => Promise<void>): Promise<number> {
    const { idempotency } = await instances.start();
    const { promise, resolve } = gate<string>();
    let runs = 0;
    const run = () => idempotency.run('k', () => (runs++, promise), { leaseMs: 20_000 });
    const running = run();
    const [record] = await waitFor('the record', async () => {
      const found = await records();
      return found.length === 1 && found;
    });
    await meanwhile(record!);
    await expect(run()).rejects.toThrow(IdempotencyInFlightError);
    resolve('done');
    expect(await running).toBe('done');
    await waitFor('the result to be stored', async () => (await stateOf(client, record!)) === 'done');
    expect(await run()).toBe('done');
    return runs;
  }

  it('[ID-20] that are claimed together continue while their slot is being moved', async () => {
    const { idempotency } = await instances.start({ idempotency: { timeoutMs: 3_000 } });
    const run = (key: string) => idempotency.run(key, () => key, { colocateWith: '{k}' });
    await run('here');
    const from = await cluster.masterOf('{k}');
    const migration = await cluster.beginMigration(
      '{k}',
      (await masters()).find((node) => node !== from)!,
    );
    try {
      expect(await Promise.all(['here', 'there', 'there too'].map(run))).toEqual([
        'here',
        'there',
        'there too',
      ]);
    } finally {
      await migration.finish();
    }
  });

  it('[ID-20] follow their record to another node, and complete there', async () => {
    const runs = await runsThrough(async (record) => {
      const from = await cluster.masterOf(record);
      const to = (await masters()).find((node) => node !== from)!;
      await cluster.migrateSlot(record, to);
    });
    expect(runs).toBe(1);
  });

  it('[ID-50] [ID-57] keep their steps in the slot of their record, and resume them at another node', async () => {
    const { idempotency, module } = await instances.start();
    const { transactions } = module.get(AtomicRedis);
    const ran: string[] = [];
    const pay = (last: () => string) => async (run: IdempotentRun) => {
      const left = await run.step('reserve', () => {
        ran.push('reserve');
        return transactions.run(['{shop}stock'], (tx) => (tx.write.incr('{shop}stock'), 1), {
          completesStep: (reserved) => reserved,
        });
      });
      const charge = await run.step('charge', ({ key }) => (ran.push('charge'), key), {
        onInterrupted: 'hold',
      });
      return [left, charge, run.keyFor('charge'), last()];
    };
    const options = { colocateWith: '{shop}', leaseMs: 20_000 };
    await expect(idempotency.run('k', pay(boom), options)).rejects.toThrow('boom');
    const node = await cluster.masterOf('{shop}');
    const keys = (await node.client.keys('*')).filter((key) => /:(idempotency|steps|held):/.test(key));
    expect(keys).toHaveLength(3);
    const slots = await Promise.all(['{shop}', ...keys].map((key) => cluster.slotOf(key)));
    expect(new Set(slots).size).toBe(1);
    await cluster.migrateSlot(
      '{shop}',
      (await masters()).find((one) => one !== node)!,
    );
    const [left, charge, key, last] = (await idempotency.run(
      'k',
      pay(() => 'done'),
      options,
    )) as unknown[];
    expect([left, charge, last]).toEqual([1, key, 'done']);
    expect(ran).toEqual(['reserve', 'charge']);
    expect(await client.get('{shop}stock')).toBe('1');
    expect(await client.exists(...keys.filter((one) => !one.includes('idempotency')))).toBe(0);
  });

  it('[ID-56] with an unknown outcome are listed page by page over all slots, each once, and settled by their ids', async () => {
    const { idempotency, module } = await instances.start();
    const operation = 'orders.create';
    for (const key of ['a', 'b', 'c', 'd']) {
      // Two in one slot.
      const options = { operation, onError: 'hold', ...(key < 'c' && { colocateWith: '{a}' }) } as const;
      await expect(idempotency.run(key, (run) => run.step('x', () => 1).then(boom), options)).rejects.toThrow(
        'boom',
      );
    }
    await waitFor('the records', async () =>
      (await Promise.all((await records()).map((one) => stateOf(client, one)))).every((s) => s === 'done'),
    );
    const all = async (): Promise<string[]> => {
      const found: HeldKey[] = [];
      let cursor: string | undefined;
      do {
        const page = await idempotency.held({ operation, limit: 1, ...(cursor !== undefined && { cursor }) });
        found.push(...page.keys);
        ({ cursor } = page);
      } while (cursor !== undefined);
      for (const one of found) expect(one).toMatchObject({ state: 'held', steps: [{ name: 'x' }] });
      return found.map(({ record }) => record);
    };
    const found = await all();
    expect(found.toSorted()).toEqual((await records()).toSorted());
    expect((await module.get(AtomicRedis).status()).heldKeys).toBeUndefined();
    const [one, other] = found as [string, string];
    expect(await idempotency.settle({ record: one }, { result: 'settled' })).toBe(true);
    expect(await idempotency.forget({ record: other })).toBe(true);
    expect((await all()).toSorted()).toEqual(found.slice(2).toSorted());
  });

  it('[ID-20] complete at the promoted replica when the master of their record dies', async () => {
    const runs = await runsThrough(async (record) => {
      const master = await cluster.masterOf(record);
      const replicas = await cluster.replicasOf(master);
      // A master's unreplicated writes are lost with it.
      await waitFor('the copy', async () => (await master.client.call('WAIT', 1, 100)) === 1);
      expect(replicas).toHaveLength(1);
      await master.server.kill();
      await waitFor('the failover', async () => (await cluster.masterOf(record)) === replicas[0], 30_000);
      await sleep(100);
    });
    expect(runs).toBe(1);
  });

  it('[ID-10] run nothing when the slot of their record has no server, and report it in time', async () => {
    const { idempotency } = await instances.start({ idempotency: { timeoutMs: 800 } });
    const master = await cluster.masterOf(0);
    const replicas = await cluster.replicasOf(master);
    await Promise.all([master, ...replicas].map(({ server }) => server.kill()));
    let runs = 0;
    const outcomes = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        idempotency
          .run(`key ${i}`, () => ++runs)
          .then(
            () => 'ran',
            (error: unknown) => error,
          ),
      ),
    );
    const refused = outcomes.filter((outcome) => outcome !== 'ran');
    expect(refused.length).toBeGreaterThan(0);
    for (const refusal of refused) expect(refusal).toBeInstanceOf(RedisUnavailableError);
    expect(runs).toBe(30 - refused.length);
  });
});
