import { Redis } from 'ioredis';
import { LimitService, type Limit } from 'nestjs-atomic-redis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import { OURS, type Bench, type Comparison } from '../workload.js';

const FLOOR = 'floor: EVALSHA for each, ioredis';

const KEYS = 10_000;
/** So much that no call is refused. */
const MAX = 1_000_000_000;
const DAY_MS = 86_400_000;

/**
 * A fixed window for each limit by one call of a script, that knows itself when it is sent again.
 * All or none.
 */
const TAKE = `
local state = redis.call('GET', KEYS[1])
if state then
  local sequence, answer = string.match(state, '^(%d+)|(.*)$')
  if tonumber(sequence) > tonumber(ARGV[2]) then return redis.error_reply('STALE') end
  if sequence == ARGV[2] then return answer end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[1]) then return redis.error_reply('LATE') end
local per = tonumber(ARGV[4])
local window = now - now % per
local used = {}
for i = 2, #KEYS do
  local start, count = string.match(redis.call('GET', KEYS[i]) or '', '^(%d+):(%d+)$')
  used[i] = tonumber(start) == window and tonumber(count) or 0
  if used[i] + 1 > tonumber(ARGV[3]) then return '0' end
end
redis.call('SET', KEYS[1], ARGV[2] .. '|1', 'PX', '65000')
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], string.format('%.0f:%.0f', window, used[i] + 1), 'PXAT', string.format('%.0f', window + per))
end
return '1'`;

type LimitsOf = (n: number) => readonly Limit[];

const fixed = (key: string): Limit => ({ key, algorithm: 'fixed', limit: MAX, perMs: DAY_MS });

async function floor({ url }: Bench, limitsOf: LimitsOf): Promise<Contestant> {
  const client = new Redis(url);
  const script = (await client.script('LOAD', TAKE)) as string;
  let sequence = 0;
  return {
    name: FLOOR,
    async op(n) {
      const keys = limitsOf(n).map(({ key }) => key);
      const args = [Date.now() + 5_000, ++sequence, MAX, DAY_MS];
      return await client.evalsha(
        script,
        keys.length + 1,
        `producer:{${keys[0]!}}`,
        ...keys.map((key) => `floor:${key}`),
        ...args,
      );
    },
    close: async () => client.disconnect(),
  };
}

async function ours(
  { url }: Bench,
  limitsOf: LimitsOf,
  algorithm: NonNullable<Limit['algorithm']> = 'fixed',
): Promise<Contestant> {
  const app = await startApp(url);
  const service = app.get(LimitService);
  const name = algorithm === 'fixed' ? OURS : `${OURS}, ${algorithm}`;
  return {
    name,
    op: (n) => {
      const limits = limitsOf(n).map((limit) => ({ ...limit, algorithm }));
      return limits.length === 1 ? service.take(limits[0]!) : service.take(limits);
    },
    close: () => app.close(),
  };
}

async function rateLimiter({ url }: Bench, limitsOf: LimitsOf): Promise<Contestant> {
  const client = new Redis(url);
  const limiter = new RateLimiterRedis({ storeClient: client, points: MAX, duration: DAY_MS / 1_000 });
  return {
    name: 'rate-limiter-flexible',
    op: (n) => {
      const [first, ...others] = limitsOf(n);
      const consumed = limiter.consume(first!.key, 1);
      // It has no call that takes from several limits or from none.
      return others.length === 0
        ? consumed
        : Promise.all([consumed, ...others.map(({ key }) => limiter.consume(key, 1))]);
    },
    close: async () => client.disconnect(),
  };
}

const contestants = (bench: Bench, limitsOf: LimitsOf): Promise<Contestant[]> =>
  Promise.all([
    floor(bench, limitsOf),
    ours(bench, limitsOf),
    ours(bench, limitsOf, 'gcra'),
    ours(bench, limitsOf, 'sliding'),
    rateLimiter(bench, limitsOf),
  ]);

const THEIRS = 'rate-limiter-flexible';

export const limitHot: Comparison = {
  floor: FLOOR,
  name: 'limit-hot',
  title: 'Rate limit, one key',
  about:
    'One call that a limit lets through, in a fixed window unless it says otherwise. Ours and the floor know a call again whose reply was lost; rate-limiter-flexible counts it twice.',
  callers: [1, 64, 256],
  bars: [
    { contestant: OURS, against: THEIRS, least: 0.9, at: [1] },
    { contestant: OURS, against: THEIRS, least: 3, at: [64, 256] },
  ],
  start: (bench: Bench) => contestants(bench, () => [fixed('hot')]),
};

export const limitKeys: Comparison = {
  floor: FLOOR,
  name: 'limit-keys',
  title: 'Rate limits, 10,000 keys',
  about: 'The same, spread over 10,000 limits in turn.',
  callers: [64],
  bars: [{ contestant: OURS, against: THEIRS, least: 1.2 }],
  start: (bench: Bench) => contestants(bench, (n) => [fixed(`limit:${n % KEYS}`)]),
};

export const limitSeveral: Comparison = {
  floor: FLOOR,
  name: 'limit-several',
  title: 'Three rate limits at once',
  about:
    'One call that takes from three limits: one of its own among 1,000, two that all share. Ours and the floor take from all or from none, by one call; rate-limiter-flexible takes from each, whatever the others say.',
  callers: [1, 64],
  bars: [{ contestant: OURS, against: THEIRS, least: 1 }],
  start: (bench: Bench) =>
    contestants(bench, (n) => [fixed(`user:${n % 1_000}`), fixed('tenant'), fixed('all')]),
};
