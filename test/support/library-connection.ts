import type { ConnectionOption } from '../../lib/connection/client.js';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { unobserved } from './observer.js';

/**
 * The library's way to a server, for parts of it that are tested by themselves. The caller closes
 * it.
 */
export const connectionTo = (connection: ConnectionOption, timeoutMs = 2_000): RedisConnection =>
  new RedisConnection({ observer: unobserved(), connection, namespace: 'atomic:', name: 'test', timeoutMs });
