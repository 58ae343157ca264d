import { Redis } from 'ioredis';
import { CounterService } from 'nestjs-atomic-redis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import { OURS, type Bench, type Comparison } from '../workload.js';

const FLOOR = 'floor: EVALSHA for each, ioredis';

const KEYS = 10_000;
const MAX = 1_000_000_000_000;

/**
 * One call of a script for each addition, that judges the bound and knows itself when it is sent
 * again.
 */
const ADD = `
local state = redis.call('GET', KEYS[2])
if state then
  local sequence, answer = string.match(state, '^(%d+)|(.*)$')
  if tonumber(sequence) > tonumber(ARGV[2]) then return redis.error_reply('STALE') end
  if sequence == ARGV[2] then return answer end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[1]) then return redis.error_reply('LATE') end
local value = tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[3])
if value > tonumber(ARGV[4]) then return redis.error_reply('LIMIT') end
local answer = string.format('%.0f', value)
redis.call('SET', KEYS[2], ARGV[2] .. '|' .. answer, 'PX', '65000')
redis.call('INCRBY', KEYS[1], ARGV[3])
return answer`;

async function floor({ url }: Bench, keyOf: (n: number) => string): Promise<Contestant> {
  const client = new Redis(url);
  const script = (await client.script('LOAD', ADD)) as string;
  let sequence = 0;
  return {
    name: FLOOR,
    async op(n) {
      const key = keyOf(n);
      const args = [Date.now() + 5_000, ++sequence, 1, MAX];
      return Number(await client.evalsha(script, 2, key, `producer:{${key}}`, ...args));
    },
    close: async () => client.disconnect(),
  };
}

async function ours({ url }: Bench, keyOf: (n: number) => string): Promise<Contestant> {
  const app = await startApp(url);
  const counters = app.get(CounterService);
  return {
    name: OURS,
    op: (n) => counters.add(keyOf(n), 1, { max: MAX }),
    close: () => app.close(),
  };
}

async function rateLimiter({ url }: Bench, keyOf: (n: number) => string): Promise<Contestant> {
  const client = new Redis(url);
  const limiter = new RateLimiterRedis({ storeClient: client, points: MAX, duration: 86_400 });
  return {
    name: 'rate-limiter-flexible',
    op: (n) => limiter.consume(keyOf(n), 1),
    close: async () => client.disconnect(),
  };
}

const contestants = (bench: Bench, keyOf: (n: number) => string): Promise<Contestant[]> =>
  Promise.all([floor(bench, keyOf), ours(bench, keyOf), rateLimiter(bench, keyOf)]);

export const counterHot: Comparison = {
  floor: FLOOR,
  name: 'counter-hot',
  title: 'Bounded counter, one key',
  about:
    'An addition of 1 to one counter with a maximum. Ours and the floor know an addition again whose reply was lost; rate-limiter-flexible counts it twice.',
  callers: [1, 64, 256],
  bars: [
    { contestant: OURS, against: FLOOR, least: 0.92, at: [1] },
    { contestant: OURS, against: FLOOR, least: 3, at: [64, 256] },
  ],
  start: (bench: Bench) => contestants(bench, () => 'hot'),
};

export const counterKeys: Comparison = {
  floor: FLOOR,
  name: 'counter-keys',
  title: 'Bounded counters, 10,000 keys',
  about: 'The same, spread over 10,000 counters in turn.',
  callers: [64],
  bars: [{ contestant: OURS, against: FLOOR, least: 0.9 }],
  start: (bench: Bench) => contestants(bench, (n) => `counter:${n % KEYS}`),
};
