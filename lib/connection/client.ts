import { Cluster, Redis, type ClusterNode, type ClusterOptions, type RedisOptions } from 'ioredis';
import { credentialsOf, useCredentials } from './credentials.js';
import { withoutSecrets } from './error-texts.js';

/** Either kind of ioredis client, of version 5 or 6, whichever copy of the package made it. @inline */
export type RedisClient = Redis | Cluster;

/** The nodes to discover a Redis Cluster from, and the options of ioredis's `Cluster`. @inline */
export interface ClusterConnection {
  nodes: ClusterNode[];
  options?: ClusterOptions;
}

/**
 * Address and options of Redis: a URL (`redis://` or `rediss://`), ioredis's `RedisOptions` (TLS,
 * Sentinel, a Unix socket), the nodes of a Cluster, or an existing client. The library takes only
 * the settings of an existing client. It opens connections of its own, and neither changes, listens
 * to, nor closes the client.
 */
export type ConnectionOption = string | RedisOptions | ClusterConnection | RedisClient;

export const isClusterClient = (client: RedisClient): client is Cluster => client.isCluster;

/**
 * Returns true if a command written in this tick leaves on a connection. A client stays 'ready'
 * until its socket has closed; the socket may have ended before.
 */
export const isWritable = (client: Redis): boolean =>
  client.status === 'ready' && client.stream.writable && !leaving.has(client);

/** Connections that wait for replies before they close. */
const leaving = new WeakSet<Redis>();

/** Marks a connection on which nothing more may be written. */
export const markLeaving = (client: Redis): void => void leaving.add(client);

export const isClient = (value: object): value is RedisClient =>
  typeof (value as Partial<RedisClient>).duplicate === 'function' && 'status' in value && 'options' in value;

/** The settings of every connection of the library, whatever the user's client has. */
const OWN = {
  lazyConnect: true,
  enableAutoPipelining: false,
  commandTimeout: undefined,
  blockingTimeout: undefined,
  // Silence alone proves nothing: `ConnectionWatch` finds dead connections.
  socketTimeout: undefined,
  // `checkConnection` judges more than INFO's `loading`, and works without INFO.
  enableReadyCheck: false,
  stringNumbers: false,
  replyMapping: 'legacy',
  autoResubscribe: false,
  scripts: undefined,
  monitor: false,
  readOnly: false,
  role: 'master',
  // The time that a closed socket may linger: it would keep the process alive.
  disconnectTimeout: 200,
} as const satisfies RedisOptions;

/**
 * After this long without an answer, an attempt to connect is given up, and the name is resolved
 * again. In milliseconds.
 */
const CONNECT_TIMEOUT_MS = 2_500;

export interface SharedClientSettings {
  connectionName: string;
  /** Returns the pause before the next attempt to connect. */
  retryDelayMs: () => number;
  /** Returns true if an answer makes the connection useless, so that the library connects again. */
  mustReconnect: (answer: Error) => boolean;
}

/**
 * Opens the library's own shared client. A command is settled when its connection is lost. The
 * library sends it again, not ioredis, so that no command waits in a queue without bound.
 * `maxRetriesPerRequest: 0` is the one setting of ioredis 6.0.0 that settles commands and still
 * reconnects.
 *
 * @param connection accepted by `checkConnectionOption`
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

/**
 * Returns the user's `reconnectOnError`. The library asks it beside its own reasons to connect
 * again.
 */
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

/**
 * Opens a connection for one owner. It never reconnects: under a WATCH or a blocking command it
 * would have lost its state.
 */
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
    // ioredis would close it again for each answer, and add a listener each time.
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
 * Handles the rejection of ASKING, which ioredis sends ahead of a redirected command without
 * reading the answer. Unhandled, it would end the process. The answer to the redirected command is
 * enough for the caller.
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
 * Returns the pause before an attempt to connect, counted from 1. The first follows at once, since
 * most losses are of the connection alone. The longest pause is short enough for a call with a
 * time-out of a second to meet an attempt of its own, and to report its result.
 */
export const reconnectDelayMs = (attempt: number): number =>
  Math.min(10 * 2 ** Math.min(attempt - 1, 6), 500) * (0.75 + Math.random() / 4);

/** Uses the user's time to connect if it is shorter than the library's. */
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
    // Commands in flight on a lost connection are settled, so that ioredis sends none again by
    // itself.
    retryDelayOnFailover: 0,
    // A call that ioredis repeated past its deadline would have an unknown outcome, though each
    // attempt was refused.
    retryDelayOnClusterDown: 0,
    maxRedirections: 3,
    // The library tries again itself, since it knows when that is safe.
    retryDelayOnTryAgain: 1,
    redisOptions: { ...options.redisOptions, ...perNode, ...timesOf(options.redisOptions ?? {}) },
  };
}

/**
 * ioredis's `duplicate()` takes the database of the constructor, not one chosen by a later
 * `select()`.
 */
function currentDatabase(client: Redis): Pick<RedisOptions, 'db'> {
  return { db: client.condition?.select ?? client.options.db };
}

/** Returns the address of a client for messages. Never contains a password. */
export function addressOf(client: RedisClient): string {
  if (isClusterClient(client))
    return `the Cluster of ${client.nodes().map(addressOf).join(', ') || 'no known nodes'}`;
  const { host = 'localhost', port = 6379, path, sentinels, name } = client.options;
  if (sentinels) return `Sentinel group ${name}`;
  return path ?? `${host}:${port}`;
}
