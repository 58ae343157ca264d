import { Cluster, Redis, type ClusterNode, type ClusterOptions, type RedisOptions } from 'ioredis';
import { InvalidArgumentError } from '../atomic-redis.errors.js';

/** Either kind of ioredis client, of version 5 or 6, whichever copy of the package made it. */
export type RedisClient = Redis | Cluster;

/** The nodes to discover a Redis Cluster from, and the options of ioredis's `Cluster`. */
export interface ClusterConnection {
  nodes: ClusterNode[];
  options?: ClusterOptions;
}

/**
 * How to reach Redis: a URL (`redis://` or `rediss://`), ioredis's `RedisOptions` (TLS, Sentinel, a Unix socket), the nodes of a
 * Cluster, or an existing client. From an existing client only its settings are taken: the library opens connections of its
 * own and neither changes, listens to, nor closes the one passed in.
 */
export type ConnectionOption = string | RedisOptions | ClusterConnection | RedisClient;

export const isClusterClient = (client: RedisClient): client is Cluster => client.isCluster;

const isClient = (value: object): value is RedisClient =>
  typeof (value as Partial<RedisClient>).duplicate === 'function' && 'status' in value && 'options' in value;

/** What every connection of the library sets for itself, whatever the user's client has. */
const OWN = {
  lazyConnect: true,
  enableAutoPipelining: false,
  commandTimeout: undefined,
  blockingTimeout: undefined,
  stringNumbers: false,
  replyMapping: 'legacy',
  reconnectOnError: null,
  autoResubscribe: false,
  scripts: undefined,
  monitor: false,
  readOnly: false,
  role: 'master',
  // How long a closed socket may linger; it would keep the process alive.
  disconnectTimeout: 200,
} as const satisfies RedisOptions;

export interface SharedClientSettings {
  connectionName: string;
  /** A connection that has commands in flight and stays silent this long is taken for dead and replaced. */
  socketTimeoutMs: number;
}

/**
 * Opens the library's own shared client. Commands are settled when their connection is lost and sent again by the library, not by
 * ioredis, so that nothing waits unbounded in a queue: `maxRetriesPerRequest: 0` is the one setting of ioredis 6.0.0 that settles
 * them and still reconnects.
 */
export function openSharedClient(connection: ConnectionOption, settings: SharedClientSettings): RedisClient {
  const shared: RedisOptions = {
    ...OWN,
    connectionName: settings.connectionName,
    socketTimeout: settings.socketTimeoutMs,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    retryStrategy: reconnectDelayMs,
  };
  if (typeof connection === 'string') return new Redis(checkUrl(connection), shared);
  if (typeof connection !== 'object' || connection === null) {
    throw new InvalidArgumentError(
      'forRoot.connection',
      'a URL, ioredis options, { nodes, options } or an ioredis client',
      connection,
    );
  }
  if (isClient(connection)) {
    if (!isClusterClient(connection))
      return connection.duplicate({ ...shared, ...currentDatabase(connection) });
    return connection.duplicate([], clusterOptions(connection.options, shared));
  }
  if ('nodes' in connection) {
    const { nodes, options, ...unknown } = connection;
    if (!Array.isArray(nodes) || nodes.length === 0)
      throw new InvalidArgumentError('forRoot.connection.nodes', 'a non-empty array', nodes);
    const [stray] = Object.keys(unknown);
    if (stray)
      throw new InvalidArgumentError(
        `forRoot.connection.${stray}`,
        'inside connection.options, beside the nodes',
        unknown[stray as never],
      );
    const cluster = new Cluster(nodes, clusterOptions(options ?? {}, shared));
    return cluster.on('+node', hearOutAsking);
  }
  return new Redis({ ...connection, ...shared });
}

/** Opens a connection for one owner: when it is lost it is lost, and never comes back under a WATCH or a blocking command. */
export function openDedicatedClient(
  near: Redis,
  connectionName: string,
  keyPrefix: string,
  socketTimeoutMs: number,
): Redis {
  return near.duplicate({
    ...OWN,
    ...currentDatabase(near),
    connectionName,
    keyPrefix,
    socketTimeout: socketTimeoutMs,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    retryStrategy: null,
  });
}

/**
 * ioredis sends ASKING in front of a command that is redirected, and leaves its answer to nobody: refused, or lost with the connection, it would be a
 * rejection that ends the process. What it was sent for is told by the answer to the command.
 */
function hearOutAsking(node: Redis): void {
  const ask = node.asking.bind(node);
  node.asking = () => {
    const answer = ask();
    answer.catch(() => undefined);
    return answer;
  };
}

export const reconnectDelayMs = (attempt: number): number => Math.min(20 * 2 ** Math.min(attempt, 6), 1_000);

function clusterOptions(options: ClusterOptions, shared: RedisOptions): ClusterOptions {
  const { retryStrategy: _, enableOfflineQueue: __, readOnly: ___, ...perNode } = shared;
  return {
    ...options,
    lazyConnect: true,
    enableAutoPipelining: false,
    scaleReads: 'master',
    enableOfflineQueue: true,
    scripts: undefined,
    clusterRetryStrategy: reconnectDelayMs,
    // What was in flight when its connection was lost is settled, not sent again behind the library's back.
    retryDelayOnFailover: 0,
    // A call that ioredis repeats when its time is over would be of unknown outcome, though each attempt was refused.
    retryDelayOnClusterDown: 0,
    maxRedirections: 3,
    // The library tries again by itself, and knows what might be done instead.
    retryDelayOnTryAgain: 1,
    redisOptions: { ...options.redisOptions, ...perNode },
  };
}

/** ioredis's `duplicate()` takes the database of the constructor, not one chosen by a later `select()`. */
function currentDatabase(client: Redis): Pick<RedisOptions, 'db'> {
  return { db: client.condition?.select ?? client.options.db };
}

function checkUrl(url: string): string {
  let scheme: string;
  try {
    scheme = new URL(url).protocol;
  } catch {
    throw new InvalidArgumentError(
      'forRoot.connection',
      'a URL such as redis://localhost:6379',
      withoutPassword(url),
    );
  }
  if (scheme !== 'redis:' && scheme !== 'rediss:') {
    throw new InvalidArgumentError(
      'forRoot.connection',
      'a URL that begins with redis:// or rediss://',
      withoutPassword(url),
    );
  }
  return url;
}

const withoutPassword = (url: string): string => url.replace(/\/\/[^@]*@/, '//***@');

/** Where a client connects to, for messages; never a password. */
export function addressOf(client: RedisClient): string {
  if (isClusterClient(client))
    return `the Cluster of ${client.nodes().map(addressOf).join(', ') || 'no known nodes'}`;
  const { host = 'localhost', port = 6379, path, sentinels, name } = client.options;
  if (sentinels) return `Sentinel group ${name}`;
  return path ?? `${host}:${port}`;
}
