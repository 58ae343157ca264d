import { startCluster, type ClusterNode, type TestCluster } from '../support/cluster.js';
import {
  callAll,
  expectSameForAll,
  startOperationApps,
  type Answers,
  type OperationApps,
} from '../support/operation-rounds.js';
import { during, REFUSED, refusedInTime, TIME_MS } from './scripted-operations.js';

/** The hash tag of every key: calls share an EVALSHA within a slot. */
const TAG = '{shared}';

describe('calls that share an EVALSHA on a Cluster', () => {
  let cluster: TestCluster;
  let apps: OperationApps;
  let rounds = 0;

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    // Records of idempotent runs lie in slots of their own.
    apps = await startOperationApps({ nodes }, (name) => !name.startsWith('idempotency'));
  });

  afterAll(async () => {
    await apps?.close();
    await cluster?.stop();
  });

  const owner = (): Promise<ClusterNode> => cluster.masterOf(TAG);
  const another = async (): Promise<ClusterNode> => {
    const present = await owner();
    return cluster.nodes.find((node) => node !== present)!;
  };

  /** Makes `many` calls of each operation at once, and tells what each came to. */
  const round = (many: number, timeoutMs: number, refuse: () => Promise<unknown>): Promise<Answers> => {
    rounds++;
    return callAll(apps.all, {
      timeoutMs,
      refuse,
      keysOf: (name) => Array.from({ length: many }, (_, i) => `${TAG}:${name}:${rounds}:${i}`),
    });
  };

  const allDone = (many: number): Answers =>
    Object.fromEntries(apps.all.map(([name]) => [name, Array.from({ length: many }, () => 'done')]));

  it('[SC-7] run at the new owner when their slot has moved: MOVED', async () => {
    for (const many of [1, 3]) {
      const moved = async (): Promise<void> => cluster.migrateSlot(TAG, await another());
      expect(await round(many, 20_000, moved)).toEqual(allDone(many));
    }
  });

  it('[SC-7] run while their slot is being moved: ASK, TRYAGAIN', async () => {
    for (const many of [1, 3]) {
      let finished: Promise<void> | undefined;
      const moving = async (): Promise<void> => {
        const migration = await cluster.beginMigration(TAG, await another());
        setTimeout(() => void (finished = migration.finish()), 200);
      };
      expect(await round(many, 60_000, moving)).toEqual(allDone(many));
      await finished;
    }
  });

  describe('in a slot that is not served', () => {
    let slot: number;
    let node: ClusterNode;
    const down = async (): Promise<void> => {
      node = await owner();
      slot = await cluster.slotOf(TAG);
      for (let i = 0; i < 16_384; i++) {
        const other = `other:${i}`;
        const candidate = await cluster.slotOf(other);
        if (candidate === slot || (await cluster.masterOf(candidate)) !== node) continue;
        slot = candidate;
        break;
      }
      await node.client.call('CLUSTER', 'DELSLOTS', slot);
    };
    const up = async (): Promise<void> => {
      await node.client.call('CLUSTER', 'ADDSLOTS', slot);
      await cluster.settled();
    };

    it('[SC-7] run once it is served again: CLUSTERDOWN', async () => {
      for (const many of [1, 3]) {
        let isUp: Promise<void> | undefined;
        const refused = async (): Promise<void> => {
          await down();
          setTimeout(() => void (isUp = up()), 200);
        };
        expect(await round(many, 20_000, refused)).toEqual(allDone(many));
        await isUp;
      }
    });

    it('[SC-7] each end like a single call if that is too late: CLUSTERDOWN', async () => {
      const alone = await during(up, () => round(1, TIME_MS, down));
      const together = await during(up, () => round(3, TIME_MS, down));
      expectSameForAll(refusedInTime(alone), refusedInTime(together));
      for (const answer of Object.values(refusedInTime(alone)).flat()) expect(answer).toEqual(REFUSED);
    });
  });
});
