import type { TestingModule } from '@nestjs/testing';
import { CrossSlotError, LimitService, type Limit } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { startCluster, type TestCluster } from '../support/cluster.js';

const LONG_MS = 31_536_000_000;

describe('limits on a Cluster', () => {
  const boot = useApp();
  let cluster: TestCluster;
  let app: TestingModule;
  let limits: LimitService;

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
    const nodes = cluster.nodes.map(({ port }) => ({ host: '127.0.0.1', port }));
    app = await boot({ connection: { nodes }, timeoutMs: 20_000 });
    limits = app.get(LimitService);
  });

  afterAll(() => cluster?.stop());

  const of = (key: string): Limit => ({ key, limit: 3, perMs: LONG_MS });

  it('[LM-11] are taken exactly in every slot', async () => {
    const keys = Array.from({ length: 60 }, (_, i) => `k${i}`);
    const results = await Promise.all(
      [...keys, ...keys, ...keys, ...keys].map((key) => limits.take(of(key))),
    );
    expect(results.filter(({ allowed }) => allowed)).toHaveLength(180);
  });

  it('[LM-11] that belong together share a hash tag, or are refused before any I/O', async () => {
    const together = [of('{team}:a'), of('{team}:b'), { ...of('{team}:a'), algorithm: 'sliding' as const }];
    expect((await limits.take(together)).allowed).toBe(true);
    const apart = [of('a'), of('b')];
    for (const call of [limits.take(apart), limits.peek(apart), limits.reserve(apart, { ttlMs: 1_000 })])
      await expect(call).rejects.toThrow(CrossSlotError);
    await expect(limits.take(apart)).rejects.toMatchObject({ keys: ['a', 'b'] });
    expect((await limits.peek(of('a'))).remaining).toBe(3);
  });

  it('[LM-11] reserve and settle in their slot', async () => {
    const both = [of('{r}:a'), of('{r}:b')];
    const { id } = await limits.reserve(both, { ttlMs: LONG_MS });
    expect(await limits.settle(id!, 2)).toBe(true);
    expect((await limits.peek(both)).limits.map(({ remaining }) => remaining)).toEqual([1, 1]);
    expect(await limits.reset(of('{r}:a'))).toBe(true);
  });

  it('[LM-11] stay exact while their slot moves to another node', async () => {
    const key = 'moving';
    await limits.take(of(key));
    const from = await cluster.masterOf(key);
    const to = cluster.nodes.find((node) => node !== from)!;
    await cluster.migrateSlot(key, to);
    const results = await Promise.all(Array.from({ length: 6 }, () => limits.take(of(key))));
    expect(results.filter(({ allowed }) => allowed)).toHaveLength(2);
  });
});
