import { Logger } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { parseServerInfo } from './server-info.js';

const logger = new Logger('AtomicRedisModule');

/**
 * Warns of a server that deletes keys when its memory is full. It then forgets what the library relies on: an evicted record lets a method run again, an evicted
 * marker leaves an outcome unknown.
 */
export async function warnOfEviction(server: Redis, address: string): Promise<void> {
  const { evictionPolicy } = parseServerInfo(await server.info());
  if (!evictionPolicy) return;
  logger.warn(
    `Redis at ${address} evicts keys when its memory is full (maxmemory-policy ${evictionPolicy}). An evicted idempotency record lets its method run again, and an ` +
      `evicted marker leaves an outcome unknown. Use maxmemory-policy noeviction, or a Redis of its own for these keys.`,
  );
}
