import type { Redis } from 'ioredis';
import type { Limit } from 'nestjs-atomic-redis';

/**
 * Leaves a fixed limit as `count` reservations of 1 leave it when they lapse at the same time. At
 * least one of 1 that lasts is there.
 */
export async function leaveLapsed(client: Redis, { key, perMs }: Limit, count: number): Promise<void> {
  const nameOf = (kind: string): string => `atomic:${kind}:f${perMs}:{${key}}:${key}`;
  const [state, holds] = [nameOf('limit'), nameOf('limit-holds')];
  const lasting = await client.zcard(holds);
  const lapsed = Array.from({ length: count }, (_, i) => ['1', `1:0:${perMs}:${i}`]).flat();
  await client.call('ZADD', holds, ...lapsed);
  const [body] = (await client.get(state))!.split(';');
  const last = (await client.zrange(holds, '-1', '-1', 'WITHSCORES'))[1];
  await client.set(state, `${body};${count + lasting}:0:1:${last}`);
}
