import { TransactionService } from 'nestjs-atomic-redis';
import { startFaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { resolveScript } from '../../lib/transactions/resolve.script.js';
import { useApp } from '../support/app.js';
import { startCluster, type TestCluster } from '../support/cluster.js';
import { holdRequest } from '../support/hold-request.js';

describe('the commit marker on a Cluster', () => {
  const boot = useApp();
  let cluster: TestCluster;

  beforeAll(async () => {
    cluster = await startCluster({ replicasPerMaster: 0 });
  });

  afterAll(() => cluster.stop());

  it('[TX-11] fences a late EXEC even if a migration of its slot was begun and cancelled meanwhile', async () => {
    const owner = await cluster.masterOf('k');
    const target = cluster.nodes.find((node) => node !== owner)!;
    const proxy = await startFaultProxy({ target: owner });
    const natMap = { [`${owner.host}:${owner.port}`]: { host: proxy.host, port: proxy.port } };
    const app = await boot({
      connection: { nodes: [{ host: proxy.host, port: proxy.port }], options: { natMap } },
    });
    const transactions = app.get(TransactionService);
    await owner.client.set('k', 'before');

    const late = proxy.deliverLate(1_500, { match: ({ name }) => name === 'EXEC' });
    const decides = {
      match: ({ name, args }: RedisCommand) =>
        name === 'EVALSHA' && args[0]?.toString() === resolveScript.sha,
    };
    const reason = new Error('the caller gave up');
    const abort = new AbortController();
    // The decision is made while the migration is under way.
    // Then a key that is absent at the owner is looked for, and would be fenced, at the other node.
    const migration = holdRequest(proxy, decides, () => cluster.beginMigration('k', target));
    void migration.then(() => abort.abort(reason));
    const running = transactions.run(['k'], (tx) => void tx.write.set('k', 'late'), { signal: abort.signal });
    await expect(running).rejects.toBe(reason);
    await (await migration).cancel();
    expect(await late.delivered).toBe(true);
    expect(await owner.client.get('k')).toBe('before');

    await app.close();
    await proxy.stop();
  });
});
