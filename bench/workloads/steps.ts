import { createHash, randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { IdempotencyService } from 'nestjs-atomic-redis';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import { OURS, type Bench, type Comparison } from '../workload.js';
import { CLAIM, LEASE_MS, payload, result, TTL_MS } from './idempotent-scripts.js';

const BARE = 'scripts by hand, ioredis';
const FLOOR = 'floor: scripts by hand with time limits and waiters, ioredis';
const STEPS = ['reserve', 'charge', 'confirm'] as const;
const KEPT_MS = 7 * 86_400_000;
const TIMEOUT_MS = 5_000;

/** A script that arrives late changes nothing, so that a caller can rely on a refusal. */
const IN_TIME = (argument: number): string => `
local t = redis.call('TIME')
if t[1] * 1000 + math.floor(t[2] / 1000) > tonumber(ARGV[${argument}]) then return 'late' end`;

/** As a step of one's own would be kept: by the owner only, in a hash that outlives the lease. */
const keep = (inTime: string): string => `
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 'lost' end${inTime}
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[2]) < 0 then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('ZADD', KEYS[3], redis.call('TIME')[1], KEYS[1])
end
return 'kept'`;

const finish = (inTime: string, wake: string): string => `
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 'lost' end${inTime}
redis.call('HSET', KEYS[1], 'result', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('UNLINK', KEYS[2])
redis.call('ZREM', KEYS[3], KEYS[1])${wake}
return 'done'`;

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url');

/** Claim, steps and end as one would write them by hand, without what only faults show. */
async function bare({ url }: Bench): Promise<Contestant> {
  const client = new Redis(url);
  const [claimSha, keepSha, finishSha] = await load(client, [CLAIM, keep(''), finish('', '')]);
  return {
    name: BARE,
    async op(n) {
      const { record, token, fingerprint, keys } = runOf(n);
      await client.evalsha(claimSha, 1, record, token, fingerprint, LEASE_MS);
      for (const step of STEPS)
        await client.evalsha(keepSha, 3, ...keys, token, step, JSON.stringify({ step, n }), KEPT_MS);
      await client.evalsha(finishSha, 3, ...keys, token, JSON.stringify(result), TTL_MS);
    },
    close: async () => client.disconnect(),
  };
}

/**
 * The same with what the library does for the faults: nothing takes effect once its call has been
 * given up, calls have a time-out, duplicates that wait are woken, and a step gives what a later
 * attempt would get.
 */
async function floor({ url }: Bench): Promise<Contestant> {
  const client = new Redis(url, { commandTimeout: TIMEOUT_MS });
  const [claimSha, keepSha, finishSha] = await load(client, [
    `${IN_TIME(4)}${CLAIM}`,
    keep(IN_TIME(5)),
    finish(IN_TIME(4), "\nredis.call('SPUBLISH', KEYS[1], '')"),
  ]);
  return {
    name: FLOOR,
    async op(n) {
      const { record, token, fingerprint, keys } = runOf(n);
      const notAfter = (): number => Date.now() + TIMEOUT_MS;
      await client.evalsha(claimSha, 1, record, token, fingerprint, LEASE_MS, notAfter());
      for (const step of STEPS) {
        const kept = JSON.stringify({ step, n });
        await client.evalsha(keepSha, 3, ...keys, token, step, kept, KEPT_MS, notAfter());
        JSON.parse(kept);
      }
      await client.evalsha(finishSha, 3, ...keys, token, JSON.stringify(result), TTL_MS, notAfter());
    },
    close: async () => client.disconnect(),
  };
}

const load = (client: Redis, scripts: readonly string[]): Promise<[string, string, string]> =>
  Promise.all(scripts.map((script) => client.script('LOAD', script))) as Promise<[string, string, string]>;

function runOf(n: number): { record: string; token: string; fingerprint: string; keys: string[] } {
  const record = `floor:${sha256(`orders.pay\0key ${n}`)}`;
  const token = randomBytes(16).toString('base64url');
  const fingerprint = sha256(JSON.stringify(payload));
  return { record, token, fingerprint, keys: [record, `${record}:steps`, 'floor:index'] };
}

async function ours({ url }: Bench): Promise<Contestant> {
  const app = await startApp(url);
  const idempotency = app.get(IdempotencyService);
  return {
    name: OURS,
    op: (n) =>
      idempotency.run(
        `key ${n}`,
        async (run) => {
          for (const step of STEPS) await run.step(step, () => ({ step, n }));
          return result;
        },
        { operation: 'orders.pay', fingerprint: payload },
      ),
    close: () => app.close(),
  };
}

export const runSteps: Comparison = {
  floor: FLOOR,
  name: 'run-steps',
  title: 'Run with three steps',
  about:
    'A call under a new key with three steps: claim, the result of each step kept by its owner, the result of the run stored and the steps deleted. Five round trips. The floor has what the library does for faults: time limits, time-outs, duplicates that are woken.',
  callers: [1, 64],
  bars: [{ contestant: OURS, against: FLOOR, least: 0.85, at: [1] }],
  start: async (bench: Bench) => [await bare(bench), await floor(bench), await ours(bench)],
};
