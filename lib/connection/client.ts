import { Cluster, Redis, type ClusterNode, type ClusterOptions, type RedisOptions } from 'ioredis';
import { credentialsOf, useCredentials } from './credentials.js';
import { withoutSecrets } from './error-texts.js';

/** Either kind of ioredis client, of version 5 or 6, whichever copy of the package made it. */
export type RedisClient = Redis | Cluster;

/** The nodes to discover a Redis Cluster from, and the options of ioredis's `Cluster`. */
export interface ClusterConnection {
  nodes: ClusterNode[];
  options?: ClusterOptions;
}

/**
 * Address and options of Redis: a URL (`redis://` or `rediss://`), ioredis's `RedisOptions` (TLS, Sentinel, a Unix socket), the nodes of a
 * Cluster, or an existing client. From an existing client only its settings are taken: the library opens connections of its
 * own and neither changes, listens to, nor closes the one passed in.
 */
export type ConnectionOption = string | RedisOptions | ClusterConnection | RedisClient;

export const isClusterClient = (client: RedisClient): client is Cluster => client.isCluster;

/** Whether a command written in this tick leaves on a connection. A client goes on being 'ready' until the socket has closed, which may have ended before. */
export const isWritable = (client: Redis): boolean =>
  client.status === 'ready' && client.stream.writable && !leaving.has(client);

/** Connections that only wait for answers before they close. */
const leaving = new WeakSet<Redis>();

/** Marks a connection on which nothing more is to be written. */
export const markLeaving = (client: Redis): void => void leaving.add(client);

export const isClient = (value: object): value is RedisClient =>
  typeof (value as Partial<RedisClient>).duplicate === 'function' && 'status' in value && 'options' in value;

/** What every connection of the library sets for itself, whatever the user's client has. */
const OWN = {
  lazyConnect: true,
  enableAutoPipelining: false,
  commandTimeout: undefined,
  blockingTimeout: undefined,
  // Silence alone proves nothing: `ConnectionWatch` finds dead connections.
  socketTimeout: undefined,
  // `checkConnection` judges more than INFO's `loading`, and gets by without INFO.
  enableReadyCheck: false,
  stringNumbers: false,
  replyMapping: 'legacy',
  autoResubscribe: false,
  scripts: undefined,
  monitor: false,
  readOnly: false,
  role: 'master',
  // How long a closed socket may linger; it would keep the process alive.
  disconnectTimeout: 200,
} as const satisfies RedisOptions;

/** A connection attempt that is not answered this long is given up, and the name resolved again. */
const CONNECT_TIMEOUT_MS = 2_500;

export interface SharedClientSettings {
  connectionName: string;
  /** The pause before the next attempt to connect. */
  retryDelayMs: () => number;
  /** Whether an answer says that the connection is of no use any more, so that the library connects again. */
  mustReconnect: (answer: Error) => boolean;
}

/**
 * Opens the library's own shared client. Commands are settled when their connection is lost and sent again by the library, not by
 * ioredis, so that nothing waits unbounded in a queue: `maxRetriesPerRequest: 0` is the one setting of ioredis 6.0.0 that settles
 * them and still reconnects.
 *
 * @param connection one that `checkConnectionOption` has let pass
 */
export function openSharedClient(connection: ConnectionOption, settings: SharedClientSettings): RedisClient {
  const shared: RedisOptions = {
    ...OWN,
    connectionName: settings.connectionName,
    connectTimeout: CONNECT_TIMEOUT_MS,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    retryStrategy: settings.retryDelayMs,
    reconnectOnError: settings.mustReconnect,
  };
  if (typeof connection === 'string') return new Redis(connection, shared);
  if (isClient(connection)) {
    if (!isClusterClient(connection))
      return connection.duplicate({
        ...shared,
        ...timesOf(connection.options),
        ...currentDatabase(connection),
      });
    return connection.duplicate([], clusterOptions(connection.options, shared));
  }
  if ('nodes' in connection) {
    const cluster = new Cluster(connection.nodes, clusterOptions(connection.options ?? {}, shared));
    return cluster.on('+node', swallowAskingRejections);
  }
  return new Redis({ ...connection, ...shared, ...timesOf(connection) });
}

/** `reconnectOnError` as the user has given it; the library asks it beside its own reasons to connect again. */
export function givenReconnectOnError(connection: ConnectionOption): (error: Error) => boolean {
  if (typeof connection === 'string') return () => false;
  const options: RedisOptions | undefined = isClient(connection)
    ? isClusterClient(connection)
      ? connection.options.redisOptions
      : connection.options
    : 'nodes' in connection
      ? connection.options?.redisOptions
      : connection;
  const given = options?.reconnectOnError;
  return typeof given === 'function' ? (error) => Boolean(given(error)) : () => false;
}

/** Opens a connection for one owner: when it is lost it is lost, and never comes back under a WATCH or a blocking command. */
export function openDedicatedClient(
  near: Redis,
  connectionName: string,
  keyPrefix: string,
  mustReconnect: (client: Redis, answer: Error) => boolean,
): Redis {
  const options: RedisOptions = {
    ...OWN,
    ...currentDatabase(near),
    connectionName,
    keyPrefix,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    retryStrategy: null,
    // ioredis closes it for each answer again, and adds a listener each time.
    reconnectOnError: (answer) => !isEnding && (isEnding = mustReconnect(client, answer)),
  };
  let isEnding = false;
  const client: Redis = near.duplicate(options);
  client.on('error', withoutSecrets);
  const credentials = credentialsOf(near);
  if (credentials) useCredentials(client, credentials, { persists: false });
  return client;
}

/**
 * Handles the rejection of ASKING, which ioredis sends ahead of a redirected command without looking at its answer: left alone, it would end the process.
 * The answer to the redirected command tells the caller enough.
 */
function swallowAskingRejections(node: Redis): void {
  const ask = node.asking.bind(node);
  node.asking = () => {
    const answer = ask();
    answer.catch(() => undefined);
    return answer;
  };
}

/**
 * The pause before an attempt to connect, counted from 1: the first follows at once, since most losses are of the connection alone. The longest is so short that a call with a time-out of
 * a second meets an attempt of its own, and is told what that one found.
 */
export const reconnectDelayMs = (attempt: number): number =>
  Math.min(10 * 2 ** Math.min(attempt - 1, 6), 500) * (0.75 + Math.random() / 4);

/** A shorter time to connect than the library's is honoured. */
const timesOf = ({ connectTimeout }: RedisOptions): RedisOptions =>
  connectTimeout !== undefined && connectTimeout < CONNECT_TIMEOUT_MS ? { connectTimeout } : {};

function clusterOptions(options: ClusterOptions, shared: RedisOptions): ClusterOptions {
  const { retryStrategy: _, enableOfflineQueue: __, readOnly: ___, ...perNode } = shared;
  return {
    ...options,
    lazyConnect: true,
    enableAutoPipelining: false,
    scaleReads: 'master',
    enableOfflineQueue: true,
    scripts: undefined,
    clusterRetryStrategy: shared.retryStrategy,
    // What was in flight when its connection was lost is settled, not sent again behind the library's back.
    retryDelayOnFailover: 0,
    // A call that ioredis repeats when its time is over would be of unknown outcome, though each attempt was refused.
    retryDelayOnClusterDown: 0,
    maxRedirections: 3,
    // The library tries again by itself, and knows what might be done instead.
    retryDelayOnTryAgain: 1,
    redisOptions: { ...options.redisOptions, ...perNode, ...timesOf(options.redisOptions ?? {}) },
  };
}

/** ioredis's `duplicate()` takes the database of the constructor, not one chosen by a later `select()`. */
function currentDatabase(client: Redis): Pick<RedisOptions, 'db'> {
  return { db: client.condition?.select ?? client.options.db };
}

/** Where a client connects to, for messages; never a password. */
export function addressOf(client: RedisClient): string {
  if (isClusterClient(client))
    return `the Cluster of ${client.nodes().map(addressOf).join(', ') || 'no known nodes'}`;
  const { host = 'localhost', port = 6379, path, sentinels, name } = client.options;
  if (sentinels) return `Sentinel group ${name}`;
  return path ?? `${host}:${port}`;
}
