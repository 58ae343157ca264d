import { Idempotency, IdempotencyError } from '@node-idempotency/core';
import { RedisStorageAdapter } from '@node-idempotency/storage-adapter-redis';
import { LEASE_MS, type Place, type RunOnce } from '../../tool.js';

/**
 * Options of a request, as its README has them: the time to live of a call in progress is a lease,
 * and that of a result is the default, a day.
 */
export async function start({ url }: Place): Promise<RunOnce> {
  const storage = new RedisStorageAdapter({ url });
  await storage.connect();
  const idempotency = new Idempotency(storage);
  return {
    async run(key, effect) {
      const request = { headers: { 'idempotency-key': key }, path: '/orders', method: 'POST', body: { key } };
      const stored = await idempotency.onRequest<string, string>({
        ...request,
        options: { cacheTTLMS: LEASE_MS },
      });
      if (stored) return stored.body!;
      const body = await effect.make();
      await idempotency.onResponse(request, { body });
      return body;
    },
    close: () => storage.disconnect(),
  };
}

export const notApplied = (error: unknown): boolean => error instanceof IdempotencyError;
