import type { ClusterConnection } from '../../lib/connection/client.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { startCluster, type TestCluster } from './cluster.js';

/** A Cluster of three masters, each behind a proxy of its own. */
export async function startClusterBehindProxies(): Promise<{
  readonly cluster: TestCluster;
  readonly proxies: readonly FaultProxy[];
  /** Leads through the proxies. */
  readonly connection: ClusterConnection;
  stop(): Promise<void>;
}> {
  const cluster = await startCluster({ replicasPerMaster: 0 });
  const proxies = await Promise.all(cluster.nodes.map((target) => startFaultProxy({ target })));
  const behind = proxies.map(({ host, port }) => ({ host, port }));
  const natMap = Object.fromEntries(
    cluster.nodes.map(({ host, port }, i) => [`${host}:${port}`, behind[i]!]),
  );
  return {
    cluster,
    proxies,
    connection: { nodes: behind, options: { natMap } },
    async stop() {
      await Promise.all(proxies.map((proxy) => proxy.stop()));
      await cluster.stop();
    },
  };
}
