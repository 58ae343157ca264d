import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { PermitService } from 'nestjs-atomic-redis';
import { Mutex } from 'redis-semaphore';
import { createLock, IoredisAdapter } from 'redlock-universal';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import { OURS, type Bench, type Comparison } from '../workload.js';

/** Acquires and releases a lock of that name, and does nothing in between. */
interface Locker {
  readonly name: string;
  readonly pass: (key: string) => Promise<unknown>;
  readonly close: () => Promise<void>;
}

const FLOOR = 'floor: scripts by hand, ioredis';
const LEASE_MS = 10_000;
/** Longer than any wait. */
const WAIT_MS = 60_000;
/** As the others poll. */
const RETRY_MS = 5;

/**
 * The fewest commands of a lock with a fence whose lost replies can be told: a token, a counter, a
 * marker for each call.
 */
const ACQUIRE = `
if redis.call('EXISTS', KEYS[3]) == 1 then return redis.call('GET', KEYS[3]) end
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[3], fence, 'PX', 65000)
return fence
`;
const RELEASE = `
if redis.call('EXISTS', KEYS[2]) == 1 then return redis.call('GET', KEYS[2]) end
local held = redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
redis.call('SET', KEYS[2], held, 'PX', 65000)
if held == 1 then redis.call('DEL', KEYS[1]) end
return held
`;

async function floor({ url }: Bench): Promise<Locker> {
  const client = new Redis(url);
  const [acquire, release] = (await Promise.all([
    client.script('LOAD', ACQUIRE),
    client.script('LOAD', RELEASE),
  ])) as [string, string];
  const marker = (): string => `marker:${randomBytes(16).toString('base64url')}`;
  return {
    name: FLOOR,
    async pass(key) {
      const token = randomBytes(16).toString('base64url');
      while (!(await client.evalsha(acquire, 3, `lock:${key}`, `fence:${key}`, marker(), token, LEASE_MS)))
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      await client.evalsha(release, 2, `lock:${key}`, marker(), token);
    },
    close: async () => client.disconnect(),
  };
}

async function ours({ url }: Bench): Promise<Locker> {
  const app = await startApp(url);
  const permits = app.get(PermitService);
  return {
    name: OURS,
    async pass(key) {
      const permit = await permits.acquire(key, { leaseMs: LEASE_MS, waitMs: WAIT_MS });
      await permit.release();
    },
    close: () => app.close(),
  };
}

async function redlock({ url }: Bench): Promise<Locker> {
  const client = new Redis(url);
  const adapter = new IoredisAdapter(client as never);
  return {
    name: 'redlock-universal',
    async pass(key) {
      const lock = createLock({
        adapter,
        key: `lock:${key}`,
        ttl: LEASE_MS,
        retryAttempts: 100_000,
        retryDelay: RETRY_MS,
        performance: 'lean',
      });
      await lock.release(await lock.acquire());
    },
    close: async () => client.disconnect(),
  };
}

async function semaphore({ url }: Bench): Promise<Locker> {
  const client = new Redis(url);
  return {
    name: 'redis-semaphore',
    async pass(key) {
      const mutex = new Mutex(client, key, {
        lockTimeout: LEASE_MS,
        acquireTimeout: WAIT_MS,
        retryInterval: RETRY_MS,
      });
      await mutex.acquire();
      await mutex.release();
    },
    close: async () => client.disconnect(),
  };
}

const on =
  (keyOf: (n: number) => string) =>
  ({ name, pass, close }: Locker): Contestant => ({ name, op: (n) => pass(`${name}:${keyOf(n)}`), close });

const lockers = (bench: Bench): Promise<Locker[]> =>
  Promise.all([floor(bench), ours(bench), redlock(bench), semaphore(bench)]);

export const permitDistinct: Comparison = {
  floor: FLOOR,
  name: 'permit',
  title: 'Permit, each of a name of its own',
  about:
    'A lock is acquired and released, and nobody waits for it. Ours and the floor give a fence, and find out what became of a call whose reply was lost.',
  callers: [1, 64],
  bars: [
    { contestant: OURS, against: 'redlock-universal', least: 1 },
    { contestant: OURS, against: 'redis-semaphore', least: 1 },
  ],
  start: async (bench) => (await lockers(bench)).map(on((n) => `distinct:${n % 10_000}`)),
};

export const permitContended: Comparison = {
  floor: FLOOR,
  name: 'permit-hot',
  title: 'Permit, all of one name, one process',
  about: `The same lock for all callers. Ours stand in line and are woken; the others ask again every ${RETRY_MS} ms, in no order.`,
  callers: [64],
  bars: [
    { contestant: OURS, against: 'redlock-universal', least: 1.5 },
    { contestant: OURS, against: 'redis-semaphore', least: 1.5 },
  ],
  start: async (bench) => (await lockers(bench)).map(on(() => 'hot')),
};
