import type { Cluster } from 'ioredis';
import { startCluster, type ClusterNode, type TestCluster } from './cluster.js';
import { waitFor } from './wait-for.js';

describe('the test cluster', () => {
  let cluster: TestCluster;
  let client: Cluster;

  beforeAll(async () => {
    cluster = await startCluster();
    client = cluster.connect();
  });

  afterAll(async () => {
    client?.disconnect();
    await cluster?.stop();
  });

  const elsewhere = (node: ClusterNode) => cluster.nodes.slice(0, 3).find((other) => other !== node)!;

  it('has three masters with a replica each, all slots served', async () => {
    expect(cluster.nodes).toHaveLength(6);
    for (const slot of [0, 5_461, 16_383]) {
      const master = await cluster.masterOf(slot);
      expect(await cluster.replicasOf(master)).toHaveLength(1);
    }
    const keys = Array.from({ length: 30 }, (_, i) => `key:${i}`);
    await Promise.all(keys.map((key) => client.set(key, key)));
    expect(await Promise.all(keys.map((key) => client.get(key)))).toEqual(keys);
    const owners = await Promise.all(keys.map((key) => cluster.masterOf(key)));
    expect(new Set(owners).size).toBe(3);
  });

  it('can begin and cancel a migration: ASK in between, everything restored afterwards', async () => {
    await client.mset('{a}1', 'one', '{a}2', 'two');
    const from = await cluster.masterOf('{a}');
    const migration = await cluster.beginMigration('{a}', elsewhere(from));
    expect(migration.from).toBe(from);
    await migration.moveKeys();
    await expect(from.client.get('{a}1')).rejects.toThrow(
      `ASK ${migration.slot} 127.0.0.1:${migration.to.port}`,
    );
    expect(await client.get('{a}1')).toBe('one');
    await migration.cancel();
    expect(await cluster.masterOf('{a}')).toBe(from);
    expect(await from.client.mget('{a}1', '{a}2')).toEqual(['one', 'two']);
    expect(await migration.to.client.call('CLUSTER', 'COUNTKEYSINSLOT', migration.slot)).toBe(0);
    await expect(from.client.get('{a}none')).resolves.toBeNull();
  });

  it('moves a slot at once if the server supports it', async () => {
    await client.set('{m}1', 'one');
    const from = await cluster.masterOf('{m}');
    const to = elsewhere(from);
    const isKnown = /^valkey_version:(9|\d{2,})\./m.test(await from.client.info('server'));
    expect(await cluster.moveAtOnce('{m}', to)).toBe(isKnown);
    expect(await cluster.masterOf('{m}')).toBe(isKnown ? to : from);
    expect(await client.get('{m}1')).toBe('one');
  });

  it('moves a slot and its keys in a finished migration', async () => {
    await client.set('{b}1', 'one');
    const from = await cluster.masterOf('{b}');
    const to = elsewhere(from);
    await cluster.migrateSlot('{b}', to);
    expect(await cluster.masterOf('{b}')).toBe(to);
    expect(await to.client.get('{b}1')).toBe('one');
    await expect(from.client.get('{b}1')).rejects.toThrow('MOVED');
    await expect(cluster.beginMigration('{b}', to)).rejects.toThrow('already');
  });

  it('replaces a killed master by its replica, which later returns as a replica', async () => {
    await client.set('{c}1', 'one');
    const master = await cluster.masterOf('{c}');
    const [replica] = await cluster.replicasOf(master);
    expect(await master.client.wait(1, 1_000)).toBe(1);
    await master.server.kill();
    await expect(cluster.masterOf('{c}')).rejects.toThrow('no running master');
    const next = await waitFor('failover', () => cluster.masterOf('{c}'));
    expect(next).toBe(replica);
    await cluster.settled();
    expect(await client.get('{c}1')).toBe('one');
    await master.server.restart();
    await waitFor('the old master follows', async () => (await cluster.replicasOf(next)).includes(master));
    await cluster.settled();
    expect(await cluster.masterOf('{c}')).toBe(next);
  });
});
