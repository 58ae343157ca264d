import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';
import { luaHistoryKept } from './lua-queue.js';

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

/** A job that was taken, and its delivery. */
export interface Delivery {
  readonly id: string;
  /** How many deliveries of the job had ended before. It only grows, so that with the job's id it names this one. */
  readonly fence: string;
  /** How often it was delivered, this time included; those that a requeue has forgiven count no longer. */
  readonly deliveries: number;
  readonly payload: Buffer;
}

/** Ended leases that one call looks at. */
const MAX_ENDED_LEASES = 100;

/** Ids without a job, left by an eviction, that one call drops. */
const MAX_STRAY_IDS = 1_000;

/** Why a job is in the dead letters that never failed by itself. */
const LEASE_ENDED = 'its lease ended before it was acknowledged';

/**
 * Ends deliveries, takes jobs, or both in one step. To take is to lease: the job, its lease and its delivery count change together.
 *
 * Taken is what BLMOVE has put into the caller's own processing list, known to the caller or not; else a job whose lease has ended; else the head
 * of the queue. Recovery so needs nobody else, and the work of a call is bounded.
 *
 * Its first write is one that frees memory wherever there is a job to end or to take, so that a queue can be emptied when memory is full; Redis lets a
 * script that has written go on. Where there is none, the first write needs memory, and it is refused without effect.
 */
export const advanceScript = defineScript({
  name: 'queues.advance',
  keys: ['marker', 'processing', 'pending', 'jobs', 'history', 'leases', 'dead', 'consumers'],
  args: ['notAfterMs', 'keepMarker', 'maxDeliveries', 'leaseMs', 'wanted', 'consumer', '...ends'],
  binary: true,
  lua: `
-- KEYS[1] marker      kept answer, by which a copy is known
-- KEYS[2] processing  list of the ids that BLMOVE gave the caller
-- KEYS[3] pending     list of the ids of jobs to be taken
-- KEYS[4] jobs        hash of job id to payload
-- KEYS[5] history     hash of job id to <deliveries that have ended>:<those that count no longer>:<why the last one failed>
-- KEYS[6] leases      sorted set of job id by the end of its lease, server time in ms
-- KEYS[7] dead        sorted set of job id by its death, server time in ms
-- KEYS[8] consumers   sorted set of consumer by when it last showed, server time in ms
-- ARGV[1] notAfterMs  server time in ms past which nothing is done
-- ARGV[2] keepMarker  '1' or ''
-- ARGV[3] maxDeliveries
-- ARGV[4] leaseMs     lease of the jobs to take, in ms
-- ARGV[5] wanted      how many jobs to take, if there are
-- ARGV[6] consumer    to be shown as alive, since it is about to wait by BLMOVE, or ''
-- ARGV[7…] ends       for each delivery to be ended: ack | retry | release | bury, the job's id, its fence, why it failed or ''
-- returns {answer, payload of the first job taken, …}, where answer is
--   <done | dead | lost>,…|<id>:<deliveries that have ended>:<those that count no longer>,…
--   with one for each delivery to be ended, then one for each job taken; or {TOO_LATE}
${luaOperation}${luaHistoryKept}
local PROCESSING, PENDING, JOBS, HISTORY, LEASES, DEAD, CONSUMERS = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local FIRST_END = 7

-- Nobody was given the job after this delivery, and it was not given back. That its time is over does not end it.
local function is_held(id, fence, ended)
  return ended == tonumber(fence) and redis.call('ZSCORE', LEASES, id)
end

local stored = recall()
if stored then
  local settled, taken = string.match(stored, '^(.*)|(.*)$')
  local kept, reply = {}, {''}
  for delivery, id, fence in string.gmatch(taken, '(([^:,]+):(%d+):%d+)') do
    -- A job that was lost again before this copy came is not given away a second time.
    local payload = is_held(id, fence, (history_of(HISTORY, id))) and redis.call('HGET', JOBS, id)
    if payload then
      kept[#kept + 1] = delivery
      reply[#reply + 1] = payload
    end
  end
  reply[1] = settled .. '|' .. table.concat(kept, ',')
  return reply
end

local now, max, wanted = now_ms(), tonumber(ARGV[3]), tonumber(ARGV[5])
if now > tonumber(ARGV[1]) then return {'TOO_LATE'} end

-- A key of another type fails ahead of the first write. What is acknowledged and what is taken from the queue is read before, or written first; where there is
-- more to do, this is called before.
local function check_types()
  redis.call('LLEN', PROCESSING)
  redis.call('LLEN', PENDING)
  redis.call('HLEN', JOBS)
  redis.call('HLEN', HISTORY)
  redis.call('ZCARD', LEASES)
  redis.call('ZCARD', DEAD)
end
if ARGV[6] ~= '' then redis.call('ZCARD', CONSUMERS) end

local settled, taken, reply = {}, {}, {''}

if ARGV[FIRST_END] then
  local only_acks = wanted == 0
  for i = FIRST_END, #ARGV, 4 do only_acks = only_acks and ARGV[i] == '${Verdict.Ack}' end
  if not only_acks then check_types() end
  for i = FIRST_END, #ARGV, 4 do
    local verdict, id, fence, failure = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local ended, forgiven, failure_before = history_of(HISTORY, id)
    local became = '${Settled.Done}'
    if not is_held(id, fence, ended) then
      became = '${Settled.Lost}'
    elseif verdict == '${Verdict.Ack}' then
      redis.call('HDEL', JOBS, id)
      redis.call('ZREM', LEASES, id)
      if ended > 0 then redis.call('HDEL', HISTORY, id) end
    else
      redis.call('ZREM', LEASES, id)
      keep_history(HISTORY, id, ended + 1, forgiven, failure ~= '' and failure or failure_before)
      if verdict == '${Verdict.Release}' then
        redis.call('LPUSH', PENDING, id)
      elseif verdict == '${Verdict.Bury}' or ended + 1 - forgiven >= max then
        redis.call('ZADD', DEAD, digits(now), id)
        became = '${Settled.Dead}'
      else
        redis.call('RPUSH', PENDING, id)
      end
    end
    settled[#settled + 1] = became
  end
end

if wanted > 0 then
  local moved, over = redis.call('LLEN', PROCESSING), redis.call('ZCOUNT', LEASES, '-inf', digits(now))
  if moved > 0 or over > 0 then
    check_types()
    -- To the head of the queue, from where it is taken at once.
    local first = {}
    for _ = 1, math.min(moved, wanted) do first[#first + 1] = redis.call('LPOP', PROCESSING) end
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', digits(now), 'LIMIT', 0, ${MAX_ENDED_LEASES})) do
      if #first == wanted then break end
      redis.call('ZREM', LEASES, id)
      if redis.call('HEXISTS', JOBS, id) == 1 then
        local ended, forgiven, failure = history_of(HISTORY, id)
        if ended + 1 - forgiven < max then
          keep_history(HISTORY, id, ended + 1, forgiven, failure)
          first[#first + 1] = id
        else
          keep_history(HISTORY, id, ended + 1, forgiven, '${LEASE_ENDED}')
          redis.call('ZADD', DEAD, digits(now), id)
        end
      end
    end
    for i = #first, 1, -1 do redis.call('LPUSH', PENDING, first[i]) end
  end

  local lease_end = digits(now + tonumber(ARGV[4]))
  for _ = 1, wanted + ${MAX_STRAY_IDS} do
    local id = #taken < wanted and redis.call('LINDEX', PENDING, 0)
    if not id then break end
    local payload, history = redis.call('HGET', JOBS, id), redis.call('HGET', HISTORY, id)
    redis.call('LPOP', PENDING)
    if payload then
      redis.call('ZADD', LEASES, lease_end, id)
      taken[#taken + 1] = id .. ':' .. (history and string.match(history, '^%d+:%d+') or '0:0')
      reply[#reply + 1] = payload
    end
  end
end

if ARGV[6] ~= '' then redis.call('ZADD', CONSUMERS, digits(now), ARGV[6]) end
reply[1] = remember(table.concat(settled, ',') .. '|' .. table.concat(taken, ','))
return reply
`,
  reply: (raw) => {
    const [answer, ...payloads] = raw as [Buffer, ...Buffer[]];
    const [settled, taken] = answer.toString().split('|') as [string, string];
    const deliveries = taken.split(',');
    return {
      settled: settled.split(',') as Settled[],
      taken: payloads.map((payload, i): Delivery => {
        const [id, ended, forgiven] = deliveries[i]!.split(':') as [string, string, string];
        return { id, fence: ended, deliveries: Number(ended) + 1 - Number(forgiven), payload };
      }),
    };
  },
});
