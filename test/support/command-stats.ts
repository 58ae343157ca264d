import type { Redis } from 'ioredis';

/** Commands of a connection's set-up, and of the counting itself. */
const NOT_COUNTED = new Set([
  'info',
  'config',
  'hello',
  'client',
  'select',
  'auth',
  'ping',
  'quit',
  'command',
  'cluster',
]);

/**
 * Runs `work` and returns how often the server was sent each command meanwhile, by lower-case name,
 * as the server counts.
 */
export async function countCommands(client: Redis, work: () => unknown): Promise<Record<string, number>> {
  await client.config('RESETSTAT');
  await work();
  const counts: Record<string, number> = {};
  for (const [, name, calls] of (await client.info('commandstats')).matchAll(
    /^cmdstat_([^:|]+)[^:]*:calls=(\d+)/gm,
  )) {
    if (!NOT_COUNTED.has(name!)) counts[name!] = (counts[name!] ?? 0) + Number(calls);
  }
  return counts;
}
