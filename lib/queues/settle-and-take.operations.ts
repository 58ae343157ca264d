import { defineOperation } from '../operations/operation.js';
import { MAX_REPLY_BYTES, readSettledAndTaken } from './settle-and-take-reply.js';
import type { SettleAndTakeTerms, Settlement } from './settle-and-take-terms.js';
import { Settled, TakeMode, Verdict } from './delivery.js';
import { DELAYED_ID_AT, luaDelay, luaHistoryKept, luaWake, QUEUE_KEYS } from './lua-queue.js';
import type { QueueAccess } from './queue-access.js';

/** Ended leases that one call looks at. */
const MAX_LOOKED_AT = 100;

/** Ids without a job, left by an eviction, that one call drops. */
const MAX_STRAY_IDS = 1_000;

/** The stored reason of a failed delivery. */
const MAX_FAILURE_CHARS = 500;

/** Why a job is in the dead letters that never failed by itself. */
const LEASE_ENDED = 'its lease ended before it was acknowledged';

/** Deliveries to end and jobs to take, of all calls that leave together. */
interface SettleAndTakeArguments extends SettleAndTakeTerms {
  readonly of: QueueAccess;
  readonly settlements: readonly Settlement[];
  readonly wanted: number;
  readonly mode: TakeMode;
  readonly hasNeighbours: boolean;
  /** A taker waits for jobs, and so may have been woken for some. */
  readonly isWaiting: boolean;
}

/**
 * Ends deliveries, takes jobs, or both in one step. To take is to lease: the job, its lease and its
 * delivery count change together.
 *
 * A lease that ended counts as a failed delivery, unless the process held other jobs beside it: one
 * of these may have killed it. Such a job is excused that once. It is given out again to a process
 * that holds nothing else, and then it counts.
 *
 * Its first write is one that frees memory wherever there is a job to end or to take, so that a
 * queue can be emptied when memory is full; Redis lets a script that has written continue.
 */
export const settleAndTake = defineOperation({
  type: 'queues.advance',
  keys: QUEUE_KEYS,
  args: {
    maxDeliveries: 'of each job',
    leaseMs: 'lease of the jobs to take, in ms',
    wanted: 'how many jobs to take, if there are',
    mode: 'any | fresh | alone, as TakeMode describes them',
    neighbours: "'1' when the process may hold other jobs beside those taken, or ''",
    woken:
      "'1' when the caller may have been woken by wake, which is then to be put back if jobs are left, or ''",
    '...ends': `for each delivery to be ended: ack | retry | release | defer | bury, the job's id, its fence, why it failed or '', and after how
many ms it may be taken again, or ''`,
  },
  returns: `{answer, payload of the first job taken, …}, where answer is
<done | dead | lost>,…|<id>:<deliveries that have ended>:<those that count as none>:<bytes>:<context>,…|<left>|<suspects>|<next>
with one for each delivery to be ended; one for each job taken, its payload '' when it is large; left: 1 when there are more to take, else 0;
suspects: 1 when there are jobs whose lease has ended, else 0; next: in how many ms the next lease ends or the next delayed job is due, or ''`,
  uses: [luaHistoryKept, luaWake],
  prepare: `
local PENDING, JOBS, HISTORY, LEASES, DEAD, DELAYED, WAKE = KEYS.pending, KEYS.jobs, KEYS.history, KEYS.leases, KEYS.dead, KEYS.delayed, KEYS.wake
local FIRST_END = ARGV.ends

-- Nobody was given the job after this delivery, and it was not given back. That its time is over does not end it.
local function is_held(id, fence, ended)
  return ended == tonumber(fence) and redis.call('ZSCORE', LEASES, id)
end
`,
  onCopy: `
  local settled, taken, rest = string.match(stored, '^([^|]*)|([^|]*)(|.*)$')
  local kept, reply = {}, {''}
  for delivery, id, fence in string.gmatch(taken, '(([^:,]+):(%d+):[^,]*)') do
    -- A job that was lost again before this copy came is not given away a second time.
    local payload = is_held(id, fence, (history_of(HISTORY, id))) and redis.call('HGET', JOBS, id)
    if payload then
      kept[#kept + 1] = delivery
      reply[#reply + 1] = #payload > ${MAX_REPLY_BYTES} and '' or payload
    end
  end
  reply[1] = settled .. '|' .. table.concat(kept, ',') .. rest
  return reply
`,
  lua: `
-- One acknowledgement of a first delivery: nearly all that a caller by itself ends. It comes to what the rest comes to.
if ARGV.wanted == '0' and #ARGV == FIRST_END + 4 and ARGV[FIRST_END] == '${Verdict.Ack}' and ARGV[FIRST_END + 2] == '0' then
  local id = ARGV[FIRST_END + 1]
  if not redis.call('HGET', HISTORY, id) and redis.call('ZSCORE', LEASES, id) then
    redis.call('HDEL', JOBS, id)
    redis.call('ZREM', LEASES, id)
    return {remember('${Settled.Done}||0|0|')}
  end
end

local now, max, asked, mode = time_ms, tonumber(ARGV.maxDeliveries), tonumber(ARGV.wanted), ARGV.mode
local wanted, now_text = asked, digits(now)

-- A key of another type fails ahead of the first write. What is acknowledged and what is taken from the queue is read before, or written first; where there is
-- more to do, this is called before.
local function check_types()
  redis.call('LLEN', PENDING)
  redis.call('HLEN', JOBS)
  redis.call('HLEN', HISTORY)
  redis.call('ZCARD', LEASES)
  redis.call('ZCARD', DEAD)
  redis.call('ZCARD', DELAYED)
end

local settled, taken, reply = {}, {}, {''}
local has_put_back = false

if ARGV[FIRST_END] then
  local delays, first_before = 0, nil
  local only_acks = wanted == 0
  for i = FIRST_END, #ARGV, 5 do only_acks = only_acks and ARGV[i] == '${Verdict.Ack}' end
  if not only_acks then check_types() end
  for i = FIRST_END, #ARGV, 5 do
    local verdict, id, fence, failure, delay = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
    local ended, forgiven, excused, trace, failure_before = history_of(HISTORY, id)
    local became = '${Settled.Done}'
    if not is_held(id, fence, ended) then
      became = '${Settled.Lost}'
    elseif verdict == '${Verdict.Ack}' then
      redis.call('HDEL', JOBS, id)
      redis.call('ZREM', LEASES, id)
      if ended > 0 or trace ~= '' then redis.call('HDEL', HISTORY, id) end
    else
      redis.call('ZREM', LEASES, id)
      ended = ended + 1
      if verdict == '${Verdict.Release}' or verdict == '${Verdict.Defer}' then forgiven = forgiven + 1 end
      keep_history(HISTORY, id, ended, forgiven, excused, trace, failure ~= '' and failure or failure_before)
      local is_last = verdict == '${Verdict.Retry}' and ended - forgiven - excused >= max
      if is_last or verdict == '${Verdict.Bury}' then
        redis.call('ZADD', DEAD, now_text, id)
        became = '${Settled.Dead}'
      elseif delay ~= '' then
        first_before = first_before or redis.call('ZRANGE', DELAYED, '0', '0')[1] or ''
        delays = delays + 1
        ${luaDelay('DELAYED', 'id', 'tonumber(delay)', 'delays')}
      else
        has_put_back = true
        redis.call(verdict == '${Verdict.Release}' and 'LPUSH' or 'RPUSH', PENDING, id)
      end
    end
    settled[#settled + 1] = became
  end
  -- One process at the least knows when the next is due.
  if first_before and redis.call('ZRANGE', DELAYED, '0', '0')[1] ~= first_before then has_put_back = true end
end

local left, suspects, next_ms = 0, 0, ''
if wanted > 0 then
  left = redis.call('LLEN', PENDING)
  local over = redis.call('ZCOUNT', LEASES, '-inf', now_text)

  -- Before those that are pending. One more than can be taken tells that others are left.
  local due, next_due, suspects_taken = {}, 1, 0
  if mode ~= '${TakeMode.Alone}' then
    due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now_text, 'LIMIT', '0', digits(wanted + 1))
  end
  if #due > 0 then
    check_types()
    has_put_back = true
  end

  if over > 0 and mode ~= '${TakeMode.Fresh}' then
    check_types()
    local first = {}
    local room = mode == '${TakeMode.Alone}' and 1 or wanted
    local lapsed = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now_text, 'WITHSCORES', 'LIMIT', '0', '${MAX_LOOKED_AT}')
    for i = 1, #lapsed, 2 do
      if #first == room then break end
      local id, score = lapsed[i], lapsed[i + 1]
      redis.call('ZREM', LEASES, id)
      over = over - 1
      if redis.call('HEXISTS', JOBS, id) == 1 then
        local ended, forgiven, excused, trace, failure = history_of(HISTORY, id)
        ended = ended + 1
        if string.sub(score, -2) == '.5' then excused = excused + 1 end
        if ended - forgiven - excused < max then
          keep_history(HISTORY, id, ended, forgiven, excused, trace, failure)
          first[#first + 1] = id
        else
          keep_history(HISTORY, id, ended, forgiven, excused, trace, '${LEASE_ENDED}')
          redis.call('ZADD', DEAD, now_text, id)
        end
      end
    end
    -- To the head of the queue, from where they are taken at once.
    for i = #first, 1, -1 do left = redis.call('LPUSH', PENDING, first[i]) end
    suspects_taken = #first
    if mode == '${TakeMode.Alone}' then wanted = #first end
  elseif mode == '${TakeMode.Alone}' then
    wanted = 0
  end
  if over > 0 then suspects = 1 end

  local lease_end = digits(now + tonumber(ARGV.leaseMs)) .. (ARGV.neighbours ~= '' and '.5' or '')
  local bytes = 0
  for i = 1, wanted + ${MAX_STRAY_IDS} do
    if #taken == wanted or bytes >= ${MAX_REPLY_BYTES} then break end
    local delayed = i > suspects_taken and due[next_due]
    local id = delayed and string.sub(delayed, ${DELAYED_ID_AT}) or redis.call('LINDEX', PENDING, '0')
    if not id then break end
    local payload, history = redis.call('HGET', JOBS, id), redis.call('HGET', HISTORY, id)
    if delayed then
      redis.call('ZREM', DELAYED, delayed)
      next_due = next_due + 1
    else
      redis.call('LPOP', PENDING)
      left = left - 1
    end
    if payload then
      redis.call('ZADD', LEASES, lease_end, id)
      local counts, trace = '0:0', ''
      if history then counts, trace = string.match(history, '^(%d+:%d+):%d+:([^:]*):') end
      taken[#taken + 1] = id .. ':' .. counts .. ':' .. digits(#payload) .. ':' .. trace
      reply[#reply + 1] = #payload > ${MAX_REPLY_BYTES} and '' or payload
      bytes = bytes + #payload
    end
  end

  if due[next_due] then left = left + 1 end

  if #taken < wanted and left == 0 then
    local soonest = math.huge
    for _, key in ipairs({LEASES, DELAYED}) do
      local one = redis.call('ZRANGE', key, '0', '0', 'WITHSCORES')
      if one[2] then soonest = math.min(soonest, tonumber(one[2])) end
    end
    if soonest < math.huge then next_ms = digits(math.max(0, math.floor(soonest) + 1 - now)) end
  end
end

if asked == 0 or left > 0 then
  if has_put_back or (left > 0 and ARGV.woken ~= '') then wake(WAKE) end
elseif #taken == asked and (has_put_back or ARGV.woken ~= '') and redis.call('ZCARD', DELAYED) > 0 then
  -- The caller is at work now: another process is to know when the next is due.
  wake(WAKE)
else
  redis.pcall('ZREM', WAKE, '1')
end
local answer = {table.concat(settled, ','), table.concat(taken, ','), left > 0 and '1' or '0', digits(suspects), next_ms}
reply[1] = remember(table.concat(answer, '|'))
return reply
`,
  binary: true,
  reply: readSettledAndTaken,
  check: (call: SettleAndTakeArguments) => call,
  does: ({ of }) => `Working on ${of.title}`,
  encode: ({ of, settlements, maxDeliveries, leaseMs, wanted, mode, hasNeighbours, isWaiting }) => {
    const ends: string[] = [];
    for (const { verdict, delivery, failure = '', delayMs } of settlements) {
      // A cut may leave half of a character.
      const reason = failure.slice(0, MAX_FAILURE_CHARS).toWellFormed();
      ends.push(verdict, delivery.id, delivery.fence, reason, delayMs ? String(delayMs) : '');
    }
    return {
      keys: { ...of.keys },
      args: {
        maxDeliveries,
        leaseMs,
        wanted,
        mode,
        neighbours: hasNeighbours ? '1' : '',
        woken: isWaiting ? '1' : '',
        ends,
      },
    };
  },
  decode: (advanced) => advanced,
});
