import {
  IdempotencyAlreadyInProgressError,
  IdempotencyConfig,
  makeIdempotent,
} from '@aws-lambda-powertools/idempotency';
import { CachePersistenceLayer } from '@aws-lambda-powertools/idempotency/cache';
import { createClient } from 'redis';
import { LEASE_MS, type Effect, type Place, type RunOnce } from '../../tool.js';

/** The Lambda's time left is the lease of a call in progress. */
export async function start({ url }: Place): Promise<RunOnce> {
  const client = createClient({ url });
  client.on('error', () => {});
  await client.connect();
  const effects = new Map<string, Effect>();
  const config = new IdempotencyConfig({ eventKeyJmesPath: 'key' });
  const create = makeIdempotent(async ({ key }: { key: string }) => await effects.get(key)!.make(), {
    persistenceStore: new CachePersistenceLayer({ client }),
    config,
  });
  config.registerLambdaContext({ getRemainingTimeInMillis: () => LEASE_MS });
  return {
    async run(key, effect) {
      effects.set(key, effect);
      return await create({ key });
    },
    close: async () => client.destroy(),
  };
}

export const notApplied = (error: unknown): boolean => error instanceof IdempotencyAlreadyInProgressError;
