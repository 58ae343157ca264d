import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';
import { luaDeliveries } from './lua-queue.js';

/** How a delivery ends. */
export const Verdict = {
  /** The job is done, and gone. */
  Ack: 'ack',
  /** The delivery failed: to the end of the queue, or to the dead letters when it was the last one. */
  Retry: 'retry',
  /** To the head of the queue, whatever number of deliveries it has had: its process ends, which is no fault of the job. */
  Release: 'release',
  /** To the dead letters at once. */
  Bury: 'bury',
} as const;

export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** What became of the delivery. */
export const Settled = {
  Done: 'done',
  /** It is in the dead letters. */
  Dead: 'dead',
  /** The lease had been lost: nothing was done. */
  Lost: 'lost',
} as const;

export type Settled = (typeof Settled)[keyof typeof Settled];

/** Ended leases that one call looks at. */
const MAX_ENDED_LEASES = 100;

/** Ids without a job, left by an eviction, that one call drops. */
const MAX_STRAY_IDS = 1_000;

/** Why a job is in the dead letters that never failed by itself. */
const LEASE_ENDED = 'its lease ended before it was acknowledged';

/**
 * Ends a delivery, takes the next job, or both in one step. To take is to lease: the job, its lease and its delivery count change together.
 *
 * Taken is what BLMOVE has put into the caller's own processing list, known to the caller or not; else a job whose lease has ended; else the head
 * of the queue. Recovery so needs nobody else, and the work of a call is bounded.
 *
 * Its first write is one that frees memory wherever there is a job to end or to take, so that a queue can be emptied when memory is full; Redis lets a
 * script that has written go on. Where there is none, the first write needs memory, and it is refused without effect.
 */
export const advanceScript = defineScript({
  name: 'queues.advance',
  keys: ['marker', 'processing', 'pending', 'jobs', 'deliveries', 'leases', 'dead', 'failures', 'consumers'],
  args: [
    'notAfterMs',
    'keepMarker',
    'verdict',
    'id',
    'fence',
    'failure',
    'maxDeliveries',
    'leaseMs',
    'consumer',
  ],
  binary: true,
  lua: `
-- KEYS[1] marker      kept answer, by which a copy is known
-- KEYS[2] processing  list of the ids that BLMOVE gave the caller
-- KEYS[3] pending     list of the ids of jobs to be taken
-- KEYS[4] jobs        hash of job id to payload
-- KEYS[5] deliveries  hash of job id to <fence>:<deliveries that count no longer>
-- KEYS[6] leases      sorted set of job id by the end of its lease, server time in ms
-- KEYS[7] dead        sorted set of job id by its death, server time in ms
-- KEYS[8] failures    hash of job id to why its last delivery failed
-- KEYS[9] consumers   sorted set of consumer by when it last showed, server time in ms
-- ARGV[1] notAfterMs  server time in ms past which nothing is done
-- ARGV[2] keepMarker  '1' or ''
-- ARGV[3] verdict     ack | retry | release | bury, or '' to end no delivery
-- ARGV[4] id          of the job whose delivery ends, or ''
-- ARGV[5] fence       of the delivery that ends, or ''
-- ARGV[6] failure     why it failed, or ''
-- ARGV[7] maxDeliveries
-- ARGV[8] leaseMs     lease of the job to take, in ms, or '' to take none
-- ARGV[9] consumer    to be shown as alive, since it is about to wait by BLMOVE, or ''
-- returns {done | dead | lost | '', id, fence, deliveries that count, payload} with '' for all of the job when none was taken,
--   or {TOO_LATE}
${luaOperation}${luaDeliveries}
local PROCESSING, PENDING, JOBS, DELIVERIES = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local LEASES, DEAD, FAILURES, CONSUMERS = KEYS[6], KEYS[7], KEYS[8], KEYS[9]

local function reply(settled, id, fence, count)
  local payload = id ~= '' and redis.call('HGET', JOBS, id)
  if not payload then return {settled, '', '', '', ''} end
  return {settled, id, fence, count, payload}
end

local stored = recall()
if stored then
  local settled, id, fence, count = string.match(stored, '^(%a*)|([^|]*)|(%d*)|(%d*)$')
  -- A job that was lost again before this copy came is not given away a second time.
  if id ~= '' and not is_held(DELIVERIES, LEASES, id, fence) then id = '' end
  return reply(settled, id, fence, count)
end
if is_late() then return {'TOO_LATE'} end
-- A key of another type fails here, ahead of the first write; the others are read in any case.
redis.call('LLEN', PROCESSING)
redis.call('LLEN', PENDING)
redis.call('HLEN', JOBS)
redis.call('HLEN', DELIVERIES)
redis.call('ZCARD', LEASES)
redis.call('ZCARD', DEAD)
redis.call('HLEN', FAILURES)
redis.call('ZCARD', CONSUMERS)

local now, max = now_ms(), tonumber(ARGV[7])

local function bury(id, failure)
  redis.call('ZADD', DEAD, digits(now), id)
  if failure ~= '' then redis.call('HSET', FAILURES, id, failure) end
end

local function settle(verdict, id, fence, failure)
  if not is_held(DELIVERIES, LEASES, id, fence) then return 'lost' end
  redis.call('ZREM', LEASES, id)
  if verdict == 'ack' then
    redis.call('HDEL', JOBS, id)
    redis.call('HDEL', DELIVERIES, id)
    redis.call('HDEL', FAILURES, id)
    return 'done'
  end
  if verdict == 'release' then
    redis.call('LPUSH', PENDING, id)
    return 'done'
  end
  local total, forgiven = deliveries_of(DELIVERIES, id)
  if verdict == 'bury' or total - forgiven >= max then
    bury(id, failure)
    return 'dead'
  end
  if failure ~= '' then redis.call('HSET', FAILURES, id, failure) end
  redis.call('RPUSH', PENDING, id)
  return 'done'
end

local function is_job(id)
  return redis.call('HEXISTS', JOBS, id) == 1
end

local function pop(list)
  for _ = 1, ${MAX_STRAY_IDS} do
    local id = redis.call('LPOP', list)
    if not id then return nil end
    if is_job(id) then return id end
  end
  return nil
end

local function next_ended()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', digits(now), 'LIMIT', 0, ${MAX_ENDED_LEASES})) do
    redis.call('ZREM', LEASES, id)
    if is_job(id) then
      local total, forgiven = deliveries_of(DELIVERIES, id)
      if total - forgiven < max then return id end
      bury(id, '${LEASE_ENDED}')
    end
  end
  return nil
end

local settled, taken, fence, count = '', '', '', ''
if ARGV[3] ~= '' then settled = settle(ARGV[3], ARGV[4], ARGV[5], ARGV[6]) end
if ARGV[8] ~= '' then
  local id = pop(PROCESSING) or next_ended() or pop(PENDING)
  if id then
    local total, forgiven = deliveries_of(DELIVERIES, id)
    taken, fence, count = id, digits(total + 1), digits(total + 1 - forgiven)
    redis.call('HSET', DELIVERIES, id, fence .. ':' .. digits(forgiven))
    redis.call('ZADD', LEASES, digits(now + tonumber(ARGV[8])), id)
  end
end
if ARGV[9] ~= '' then redis.call('ZADD', CONSUMERS, digits(now), ARGV[9]) end
remember(settled .. '|' .. taken .. '|' .. fence .. '|' .. count)
return reply(settled, taken, fence, count)
`,
  reply: (raw) => {
    const [settled, id, fence, deliveries, payload] = raw as Buffer[];
    return {
      settled: String(settled) as Settled,
      taken: id?.length
        ? { id: String(id), fence: String(fence), deliveries: Number(deliveries), payload: payload! }
        : undefined,
    };
  },
});
