import { Redis } from 'ioredis';
import { RedisServerStartError, startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { freePort } from './free-port.js';

export interface ClusterNode {
  /** The node's id in the cluster. */
  readonly id: string;
  readonly host: string;
  readonly port: number;
  readonly url: string;
  readonly server: RedisServer;
  /** To this node only: it follows no redirection. */
  readonly client: Redis;
}

export interface NodeView {
  readonly role: 'master' | 'replica';
  /** Id of the node it replicates. */
  readonly masterId: string | undefined;
  readonly epoch: number;
  owns(slot: number): boolean;
}

const BUS_OFFSET = 10_000;
const PORT_ATTEMPTS = 20;

export async function startClusterNode(options: {
  binary: string | undefined;
  nodeTimeoutMs: number;
}): Promise<ClusterNode> {
  const args = [
    ['--cluster-enabled', 'yes'],
    ['--cluster-node-timeout', String(options.nodeTimeoutMs)],
    // A replica's first copy would otherwise wait for company.
    ['--repl-diskless-sync-delay', '0'],
  ].flat();
  for (let attempt = 1; ; attempt++) {
    const port = await freePort(BUS_OFFSET);
    try {
      const server = await startRedisServer({ binary: options.binary, args, port });
      const client = new Redis(server.url, { maxRetriesPerRequest: 0, retryStrategy: () => 50 });
      // A node that a test killed: what is asked of it fails by itself.
      client.on('error', () => {});
      const id = (await client.call('CLUSTER', 'MYID')) as string;
      return { id, host: server.host, port, url: server.url, server, client };
    } catch (error) {
      const taken = error instanceof RedisServerStartError && error.portTaken;
      if (!taken || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

/** Returns the node's own view, which is the first to be true. */
export async function viewOf(node: ClusterNode): Promise<NodeView> {
  const table = (await node.client.call('CLUSTER', 'NODES')) as string;
  const own = table.split('\n').find((line) => line.includes('myself'));
  const [, , flags = '', masterId, , , epoch, , ...slots] = own?.split(' ') ?? [];
  const role = flags.includes('master') ? 'master' : 'replica';
  return {
    role,
    masterId: role === 'replica' ? masterId : undefined,
    epoch: Number(epoch),
    // Slots being moved are listed again in brackets.
    owns: (slot) =>
      slots.some((range) => {
        const [first, last = first] = range.split('-').map(Number);
        return first !== undefined && last !== undefined && first <= slot && slot <= last;
      }),
  };
}

/** Returns a node's view of the whole Cluster: the master of each slot range, and its replicas. */
export async function beliefOf(node: ClusterNode): Promise<{
  /** The same text for all nodes that believe the same. */
  readonly text: string;
  /** Ids of those who replicate, by the id of their master. */
  readonly replicas: ReadonlyMap<string, readonly string[]>;
  readonly isWhole: boolean;
}> {
  const table = (await node.client.call('CLUSTER', 'NODES')) as string;
  const masters: string[] = [];
  const replicas = new Map<string, string[]>();
  let served = 0;
  for (const line of table.trim().split('\n')) {
    const [id, , flags = '', masterId, , , , link, ...slots] = line.split(' ');
    // A node reports no link for itself.
    if (/fail|handshake|noaddr/.test(flags) || link !== 'connected') continue;
    if (!flags.includes('master')) {
      replicas.set(masterId!, [...(replicas.get(masterId!) ?? []), id!]);
      continue;
    }
    const own = slots.filter((range) => !range.startsWith('['));
    for (const [first, last = first] of own.map((range) => range.split('-').map(Number)))
      served += last! - first! + 1;
    masters.push(`${id} ${own.join(' ')}`);
  }
  const followers = [...replicas].map(([master, ids]) => `${master} < ${ids.toSorted().join(' ')}`);
  return {
    text: [...masters.toSorted(), ...followers.toSorted()].join('\n'),
    replicas,
    isWhole: served === 16_384,
  };
}

/** Serves, and as a replica holds its master's data. */
export async function isInStep(node: ClusterNode): Promise<boolean> {
  const info = (await node.client.call('CLUSTER', 'INFO')) as string;
  const replication = await node.client.info('replication');
  return (
    info.includes('cluster_state:ok\r\n') &&
    (replication.includes('role:master') || replication.includes('master_link_status:up'))
  );
}
