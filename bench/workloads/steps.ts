import { createHash, randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { IdempotencyService } from 'nestjs-atomic-redis';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import { OURS, type Bench, type Comparison } from '../workload.js';
import { CLAIM, LEASE_MS, payload, result, TTL_MS } from './idempotent-scripts.js';

const FLOOR = 'floor: scripts by hand, ioredis';
const STEPS = ['reserve', 'charge', 'confirm'] as const;
const KEPT_MS = 7 * 86_400_000;

/** As a step of one's own would be kept: by the owner only, in a hash that outlives the lease. */
const KEEP = `
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 'lost' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if redis.call('PTTL', KEYS[2]) < 0 then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('ZADD', KEYS[3], redis.call('TIME')[1], KEYS[1])
end
return 'kept'`;

const FINISH = `
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 'lost' end
redis.call('HSET', KEYS[1], 'result', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('UNLINK', KEYS[2])
redis.call('ZREM', KEYS[3], KEYS[1])
return 'done'`;

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url');

async function floor({ url }: Bench): Promise<Contestant> {
  const client = new Redis(url);
  const [claim, keep, finish] = (await Promise.all(
    [CLAIM, KEEP, FINISH].map((script) => client.script('LOAD', script)),
  )) as [string, string, string];
  return {
    name: FLOOR,
    async op(n) {
      const record = `floor:${sha256(`orders.pay\0key ${n}`)}`;
      const token = randomBytes(16).toString('base64url');
      const fingerprint = sha256(JSON.stringify(payload));
      await client.evalsha(claim, 1, record, token, fingerprint, LEASE_MS);
      const keys = [record, `${record}:steps`, 'floor:index'];
      for (const step of STEPS)
        await client.evalsha(keep, 3, ...keys, token, step, JSON.stringify({ step, n }), KEPT_MS);
      await client.evalsha(finish, 3, ...keys, token, JSON.stringify(result), TTL_MS);
    },
    close: async () => client.disconnect(),
  };
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
    'A call under a new key with three steps: claim, the result of each step kept by its owner, the result of the run stored and the steps deleted. Five round trips.',
  callers: [1, 64],
  bars: [{ contestant: OURS, against: FLOOR, least: 0.85, at: [1] }],
  start: async (bench: Bench) => [await floor(bench), await ours(bench)],
};
