import { setTimeout as sleep } from 'node:timers/promises';
import { startCluster, type TestCluster } from '../support/cluster.js';
import { waitFor } from '../support/wait-for.js';
import { gate, useInstances } from './support.js';

describe('duplicates that wait on a Cluster', () => {
  let cluster: TestCluster;
  const connection = (keyPrefix = '') => ({
    nodes: cluster.nodes.map(({ host, port }) => ({ host, port })),
    options: { keyPrefix },
  });
  const instances = useInstances(() => ({
    connection: connection(),
    namespace: 'atomic:',
    idempotency: { onDuplicate: 'wait', timeoutMs: 5_000 },
  }));

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
  });

  afterAll(() => cluster.stop());

  it.each(['', 'app:'])(
    '[ID-11] are woken by the server of their record’s slot, with key prefix %j',
    async (prefix) => {
      const { idempotency } = await instances.start({ connection: connection(prefix) });
      let runs = 0;
      const took = new Map<number, number[]>();
      const recordsOf = (): Promise<number[]> =>
        Promise.all(cluster.nodes.map(async ({ client }) => (await client.keys('*idempotency*')).length));
      for (const key of Array.from({ length: 12 }, (_, i) => `key {${i}} *?`)) {
        const before = await recordsOf();
        let endedAt = 0;
        const run = async (): Promise<string> => {
          runs++;
          await sleep(100);
          endedAt = performance.now();
          return key;
        };
        const calls = Array.from({ length: 10 }, () => idempotency.run(key, run));
        expect(await Promise.all(calls)).toEqual(Array<string>(10).fill(key));
        const wokenMs = performance.now() - endedAt;
        const server = (await recordsOf()).findIndex((count, i) => count > before[i]!);
        took.set(server, [...(took.get(server) ?? []), wokenMs]);
      }
      expect(runs).toBe(12);
      // By asking again they would know after some 900 ms, at every key. A machine that stalls delays
      // a few.
      expect(new Set(took.keys())).toEqual(new Set([0, 1, 2]));
      for (const ofServer of took.values()) expect(Math.min(...ofServer)).toBeLessThan(500);
    },
  );

  it('[ID-11] get the result though their record’s slot moves while they wait, and so do later waiters', async () => {
    const [first, second] = await Promise.all([instances.start(), instances.start()]);
    const options = { colocateWith: 'moving' };
    const from = await cluster.masterOf('moving');
    const move = async (): Promise<void> => {
      await waitFor('the subscription', async () => {
        const channels = (await from.client.call('PUBSUB', 'SHARDCHANNELS')) as string[];
        return channels.length === 1;
      });
      await cluster.migrateSlot(
        'moving',
        cluster.nodes.find((node) => node !== from)!,
      );
    };
    for (const [key, meanwhile] of [
      ['before', move],
      ['after', async () => undefined],
    ] as const) {
      const { promise, resolve } = gate<string>();
      const holder = first.idempotency.run(key, () => promise, options);
      await waitFor('the run', async () => (await second.idempotency.inspect(key, options)) !== null);
      const call = second.idempotency.run(key, () => 'another', options);
      await meanwhile();
      resolve(key);
      expect(await Promise.all([holder, call])).toEqual([key, key]);
    }
  });
});
