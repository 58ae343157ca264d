import type { TestingModule } from '@nestjs/testing';
import type { Cluster } from 'ioredis';
import { CrossSlotError, ShadowKeyService, ShadowLostError } from 'nestjs-atomic-redis';
import { startCluster, type TestCluster } from '../support/cluster.js';
import { waitFor } from '../support/wait-for.js';
import { fieldsOf, startApp } from './app.js';

describe('shadow keys on a Cluster', () => {
  let cluster: TestCluster;
  let client: Cluster;
  let app: TestingModule;
  let shadowKeys: ShadowKeyService;

  beforeAll(async () => {
    cluster = await startCluster({ masters: 3, replicasPerMaster: 1 });
    client = cluster.connect();
    const { host, port } = cluster.nodes[0]!;
    app = await startApp({ nodes: [{ host, port }], options: { keyPrefix: 'p:' } });
    shadowKeys = app.get(ShadowKeyService);
  });

  afterAll(async () => {
    await app?.close();
    client?.disconnect();
    await cluster?.stop();
  });

  it.each(['plain', 'with {tag} inside', '{}empty', 'a}b', '{a}{b}', 'a{}b}', '\u0000{x', 'ключ'])(
    '[SK-14] work in the slot of every key: %p',
    async (key) => {
      await client.hset(`p:${key}`, { v: 'old' });
      expect(
        await shadowKeys.replace(key, fieldsOf('new', 1_500), { keepPrevious: true, version: 1 }),
      ).toMatchObject({ swapped: true });
      expect(await client.hlen(`p:${key}`)).toBe(1_500);
      expect(await shadowKeys.replace(key, { v: 1 }, { version: 0 })).toMatchObject({ swapped: false });
      expect(await shadowKeys.rollback(key)).toBe(true);
      expect(await client.hgetall(`p:${key}`)).toEqual({ v: 'old' });
    },
  );

  it('[SK-14] swap several keys of one slot, and refuse those of several before any I/O', async () => {
    await shadowKeys.replaceAll({ '{s}:a': { v: 1 }, '{s}:b': { v: 2 } });
    expect(await client.hget('p:{s}:b', 'v')).toBe('2');
    await expect(shadowKeys.replaceAll({ a: { v: 1 }, b: { v: 2 } })).rejects.toThrow(CrossSlotError);
    await expect(shadowKeys.rollback(['a', 'b'])).rejects.toThrow(CrossSlotError);
    expect(await client.exists('p:a')).toBe(0);
  });

  const hold = (key: string) => {
    let goOn = (): void => undefined;
    const held = new Promise<void>((resolve) => (goOn = resolve));
    let isStanding = false;
    const replacing = shadowKeys.replace(
      key,
      async (w) => {
        await w.hset(fieldsOf('new', 1_000));
        isStanding = true;
        await held;
        await w.hset(fieldsOf('new', 3_000));
      },
      { shadowTtlMs: 5_000 },
    );
    replacing.catch(() => undefined);
    return { replacing, goOn, standing: () => waitFor('the first chunk', () => isStanding) };
  };

  it('[SK-14] lose the shadow when its slot moves meanwhile, and succeed on a retry', async () => {
    const key = 'moving';
    await client.hset(`p:${key}`, { v: 'old' });
    const { replacing, goOn, standing } = hold(key);
    await standing();
    const from = await cluster.masterOf(`p:${key}`);
    const to = cluster.nodes.slice(0, 3).find((node) => node !== from)!;
    await cluster.migrateSlot(`p:${key}`, to);
    goOn();
    await expect(replacing).rejects.toThrow(ShadowLostError);
    expect(await client.hgetall(`p:${key}`)).toEqual({ v: 'old' });
    expect(await shadowKeys.replace(key, fieldsOf('new', 3_000))).toMatchObject({ swapped: true });
    expect(await client.hlen(`p:${key}`)).toBe(3_000);
  });

  it('[SK-14] lose the shadow when its master dies meanwhile, and succeed on a retry', async () => {
    const key = 'dying';
    await client.hset(`p:${key}`, { v: 'old' });
    const master = await cluster.masterOf(`p:${key}`);
    await waitFor('the replica to have it', async () => {
      const [replica] = await cluster.replicasOf(master);
      return ((await replica!.client.call('INFO', 'replication')) as string).includes(
        'master_link_status:up',
      );
    });
    const { replacing, standing } = hold(key);
    await standing();
    await master.client.wait(1, 5_000);
    await master.server.kill();
    await expect(replacing).rejects.toThrow(ShadowLostError);
    const again = await waitFor(
      'another master',
      () => shadowKeys.replace(key, fieldsOf('new', 3_000)),
      40_000,
    );
    expect(again).toMatchObject({ swapped: true });
    expect(await client.hlen(`p:${key}`)).toBe(3_000);
  });
});
