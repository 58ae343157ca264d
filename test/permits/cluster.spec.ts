import type { Cluster } from 'ioredis';
import { CrossSlotError, LeaseLostError, type AtomicRedis } from 'nestjs-atomic-redis';
import { startCluster, type TestCluster } from '../support/cluster.js';
import { usePermitApps } from './permits-app.js';

describe('a permit on a Cluster', () => {
  const apps = usePermitApps();
  let cluster: TestCluster;
  let client: Cluster;
  let atomic: AtomicRedis;

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
    client = cluster.connect();
  });
  beforeEach(async () => {
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    atomic = await apps.start({ nodes }, { timeoutMs: 20_000 });
  });
  afterAll(async () => {
    client.disconnect();
    await cluster.stop();
  });

  it('[PM-10] protects keys that share the tag of its name, and passes from its holder to a waiting caller', async () => {
    const { permits, transactions, values } = atomic;
    const permit = await permits.acquire('stock:{42}', { limit: 3 });
    await transactions.run(['{42}:sold'], (tx) => void tx.write.set('{42}:sold', 1), { permit });
    await values.getAndSet('{42}:name', 'a', { permit });
    const others = [1, 2].map(() => permits.acquire('stock:{42}', { limit: 3 }));
    await Promise.all(others);
    const waiting = permits.acquire('stock:{42}', { limit: 3, waitMs: 60_000 });
    await permit.release();
    await waiting;
    await expect(values.getAndSet('{42}:name', 'b', { permit })).rejects.toBeInstanceOf(LeaseLostError);
    expect(await client.get('{42}:name')).toBe('a');
    expect(await client.get('{42}:sold')).toBe('1');
  });

  it('[PM-10] is refused before any command for keys in other slots', async () => {
    const { permits, transactions, values } = atomic;
    const permit = await permits.acquire('stock:{8}');
    const run = transactions.run(['{7}:sold'], (tx) => void tx.write.set('{7}:sold', 1), { permit });
    await expect(run).rejects.toThrow(CrossSlotError);
    await expect(run).rejects.toThrow('hash tag');
    const set = values.getAndSet('{7}:name', 'a', { permit });
    await expect(set).rejects.toThrow(CrossSlotError);
    await expect(set).rejects.toMatchObject({
      keys: ['{7}:name', expect.stringContaining('{8}') as string],
      message: expect.stringContaining('The last is the permit') as string,
    });
    expect(await client.get('{7}:sold')).toBeNull();
  });
});
