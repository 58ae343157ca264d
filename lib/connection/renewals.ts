import type { Redis } from 'ioredis';
import { isIdle } from './pending-commands.js';

/**
 * The least time after which a connection is replaced because its password ends, in milliseconds.
 */
const MIN_RENEWAL_MS = 1_000;

/** The times at which a connection is replaced, in milliseconds since 1970. */
interface Renewal {
  /** From this time on it is replaced as soon as no call waits for a reply on it. */
  readonly dueAt: number;
  /** At this time it is replaced although calls wait. */
  readonly latestAt: number;
}

const renewals = new WeakMap<Redis, Renewal>();

/**
 * Plans the replacement of a connection that signs in now.
 * @param expiresAt the end of its password, in milliseconds since 1970
 */
export function planRenewal(client: Redis, expiresAt: number | undefined): void {
  if (expiresAt === undefined) return void renewals.delete(client);
  const now = Date.now();
  const leftMs = expiresAt - now;
  // Processes that start together get the same time; the random part keeps them from connecting all
  // at once.
  const dueAt = now + Math.max(MIN_RENEWAL_MS, leftMs * (0.75 + Math.random() * 0.15));
  renewals.set(client, { dueAt, latestAt: Math.max(dueAt, expiresAt - leftMs * 0.05) });
}

/** Returns true if a connection must be replaced now. */
export function mustRenew(client: Redis): boolean {
  const renewal = renewals.get(client);
  if (!renewal) return false;
  const now = Date.now();
  return now >= renewal.latestAt || (now >= renewal.dueAt && isIdle(client));
}

const reconnecting = new WeakSet<Redis>();

/**
 * Connects a node of a Cluster client again, in its place: ioredis forgets a node whose connection
 * ends until it reads the slots again. New calls wait for the new connection.
 */
export function reconnectNode(node: Redis): void {
  if (node.status !== 'ready' || reconnecting.has(node)) return;
  reconnecting.add(node);
  const { retryStrategy, maxRetriesPerRequest } = node.options;
  const restore = (): void => {
    Object.assign(node.options, { retryStrategy, maxRetriesPerRequest });
    node.off('ready', restore);
    node.off('end', restore);
    reconnecting.delete(node);
  };
  node.options.retryStrategy = (attempt) => (attempt === 1 ? 0 : null);
  // A call that already waits is settled as lost. Otherwise ioredis would send it again by itself.
  if (isIdle(node)) node.options.maxRetriesPerRequest = null;
  node.once('ready', restore);
  node.once('end', restore);
  node.disconnect(true);
}
