import type { Cluster } from 'ioredis';
import type { TestingModule } from '@nestjs/testing';
import { TransactionService } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { startCluster, type ClusterNode, type SlotMigration, type TestCluster } from '../support/cluster.js';
import { tellRefused, WAYS, type Refusal, type Way } from '../support/refused-transactions.js';

const KEY = 'key';

/** A slot of each master, which are as many. None is that of the key. */
const ONE_OF_EACH = [100, 8_000, 16_000];

describe('a refusal of a Cluster, for transactions that share an EXEC or are joined', () => {
  const boot = useApp();
  let cluster: TestCluster;
  let client: Cluster;
  let app: TestingModule;
  let transactions: TransactionService;

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
    client = cluster.connect();
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    app = await boot({ connection: { nodes } });
    transactions = app.get(TransactionService);
  });

  afterAll(async () => {
    client?.disconnect();
    await cluster?.stop();
  });

  const another = async (): Promise<ClusterNode> => {
    const owner = await cluster.masterOf(KEY);
    return cluster.nodes.find((node) => node !== owner)!;
  };

  /** The slot is gone when EXEC is written. */
  const moved = (): Refusal => ({
    begin: async () => cluster.migrateSlot(KEY, await another()),
    end: async () => {},
    passesAfterMs: 0,
  });

  /**
   * Its keys are at the other node already, and the slot follows later: ASK, and TRYAGAIN where
   * there are others.
   */
  const moving = (): Refusal => {
    let migration: SlotMigration;
    return {
      begin: async () => {
        migration = await cluster.beginMigration(KEY, await another());
        await migration.moveKeys();
      },
      end: () => migration.finish(),
      passesAfterMs: 200,
    };
  };

  /** A slot of the same node, in which nothing is, is not served. */
  const down = (passesAfterMs?: number): Refusal => {
    let node: ClusterNode;
    let slot: number;
    return {
      begin: async () => {
        node = await cluster.masterOf(KEY);
        const owners = await Promise.all(ONE_OF_EACH.map((one) => cluster.masterOf(one)));
        slot = ONE_OF_EACH[owners.indexOf(node)]!;
        await node.client.call('CLUSTER', 'DELSLOTS', slot);
      },
      end: async () => {
        await node.client.call('CLUSTER', 'ADDSLOTS', slot);
        await cluster.settled();
      },
      ...(passesAfterMs !== undefined && { passesAfterMs }),
    };
  };

  const tell = (way: Way, refusal: Refusal): Promise<object[]> =>
    tellRefused({ transactions, client, key: KEY }, way, refusal);

  it.each<[string, () => Refusal]>([
    ['MOVED', moved],
    ['ASK and TRYAGAIN', moving],
    ['CLUSTERDOWN', () => down(200)],
  ])('[TX-15] %s that passes prevents none of them from being applied', async (_, refusal) => {
    for (const way of ['alone', 'together', 'joined'] as const)
      expect(await tell(way, refusal())).toEqual(
        Array.from({ length: WAYS[way] }, () => ({ applied: true })),
      );
  });

  it.each(['alone', 'together', 'joined'] as const)(
    '[TX-15] CLUSTERDOWN until their deadline applies nothing and may be tried again: %s',
    async (way) => {
      const told = await tell(way, down());
      expect(told).toHaveLength(WAYS[way]);
      // The last refusal, or the end of the time while another attempt was made.
      const code = expect.stringMatching(/^(REDIS_UNAVAILABLE|TRANSACTION_TIMEOUT)$/);
      for (const one of told) expect(one).toMatchObject({ code, outcome: 'not-applied', retryable: true });
    },
  );
});
