import { claimScript } from '../../lib/idempotency/claim.script.js';
import { completeScript } from '../../lib/idempotency/complete.script.js';
import { releaseScript } from '../../lib/idempotency/release.script.js';
import { renewScript } from '../../lib/idempotency/renew.script.js';
import type { Redis } from 'ioredis';
import type { FaultOptions, FaultProxy, RedisServer } from '../../lib/testing/index.js';
import { serverFaults, whenDelivered, whenMet, type FaultKind } from './faults.js';
import { integerBetween } from './random.js';
import type { WorkerPool } from './worker-pool.js';

export const LEASE_MS = 1_000;
/** Past the lease. */
export const LATE_MS = 1_300;
const PAUSE_MS = { least: 1_100, most: 2_500 };

export const KILL = 'kill -9 of a process';
export const PAUSE = 'SIGSTOP past the lease';

/**
 * The targets of faults: workers, each of which reaches the server through the proxy of its index.
 */
export interface Scene {
  readonly server: RedisServer;
  /** To the server itself, past the proxies. */
  readonly admin: Redis;
  readonly proxies: readonly FaultProxy[];
  readonly pool: Pick<WorkerPool<unknown>, 'kill' | 'pause'>;
}

export function kindsOfFaults({ server, admin, proxies, pool }: Scene, random: () => number) {
  const index = (): number => integerBetween(random, 0, proxies.length - 1);
  const proxy = (): FaultProxy => proxies[index()]!;
  const exec: FaultOptions = { match: ({ name }) => name === 'EXEC' };
  const on = ({ sha }: { sha: string }): FaultOptions => ({
    match: ({ name, args }) => name === 'EVALSHA' && args[0]?.toString() === sha,
  });
  const commands = {
    claim: on(claimScript),
    renewal: on(renewScript),
    completion: on(completeScript),
    release: on(releaseScript),
    EXEC: exec,
  };
  const struck: Record<string, FaultKind> = {};
  for (const [name, options] of Object.entries(commands)) {
    struck[`${name}: reply lost`] = { times: 5, inject: () => whenMet(proxy().loseReplies(options)) };
    struck[`cut before ${name}`] = { times: 5, inject: () => whenMet(proxy().cutBeforeServer(options)) };
    struck[`${name} ${LATE_MS} ms late`] = {
      times: 5,
      inject: () => whenDelivered(proxy().deliverLate(LATE_MS, options)),
    };
  }
  return {
    ...struck,
    [PAUSE]: {
      times: 0,
      inject: async () => pool.pause(index(), integerBetween(random, PAUSE_MS.least, PAUSE_MS.most)),
    },
    [KILL]: { times: 0, inject: async () => pool.kill(index()) },
    ...serverFaults(server, admin),
  };
}
