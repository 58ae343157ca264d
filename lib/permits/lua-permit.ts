import { luaMoment } from '../scripting/lua.js';

/**
 * Time for which what is known of a name outlives its last use, in milliseconds: its fences rise
 * across any pause that is shorter.
 */
const KEPT_MS = 7 * 86_400_000;

/**
 * Length of the lease of one that was given a permit while it waited, until it takes it, in
 * milliseconds.
 */
export const CLAIM_MS = 1_000;

/** Entries of the line that one call looks at. */
const MAX_SEEN = 256;

/**
 * Shared by the scripts on permits. The state is a hash: `f<slot>` is the last fence of a slot.
 * `w<token>` is `<until>:<lease>:<process>` of one that waits: the server time in ms until which it
 * is taken to be alive, the length of the lease that it wants, and its process. A fence is above
 * every one before it, and at least the time in µs, so that fences also rise where the hash was
 * lost.
 *
 * `next_in_line(line, state, ms, count, stop)` returns the tokens of the first `count` that wait
 * and are alive, and of those ahead of them that are not. It ends at `stop(token, ticket)`, and
 * tells by its third result whether it ended there, and by its fourth whether the line has no more.
 * `give` hands a slot over; with a short lease, unless its process is told by the answer of the
 * script. Otherwise it wakes the one that gets it; the message is a courtesy, and fails in silence
 * if the user may not publish.
 */
export const luaPermit = `${luaMoment}
local function digits(n) return string.format('%.0f', n) end

local function next_fence(state, slot, us)
  local last = tonumber(redis.call('HGET', state, 'f' .. slot) or nil) or 0
  return digits(math.max(last + 1, us))
end

local function keep(key) redis.call('PEXPIRE', key, '${KEPT_MS}') end

local function leave_line(line, state, token)
  redis.call('ZREM', line, token)
  redis.call('HDEL', state, 'w' .. token)
end

local function next_in_line(line, state, ms, count, stop)
  local alive, dead, seen = {}, {}, 0
  while seen < ${MAX_SEEN} do
    local page = redis.call('ZRANGE', line, seen, seen + 15, 'WITHSCORES')
    if #page == 0 then return alive, dead, false, true end
    for i = 1, #page, 2 do
      local token = page[i]
      if stop(token, tonumber(page[i + 1])) then return alive, dead, true, false end
      if #alive == count then return alive, dead, false, false end
      seen = seen + 1
      local until_ms = tonumber(string.match(redis.call('HGET', state, 'w' .. token) or '', '^%d+'))
      if until_ms and until_ms >= ms then alive[#alive + 1] = token else dead[#dead + 1] = token end
    end
  end
  return alive, dead, false, false
end

local function give(key, slot, token, state, line, fence, told_lease)
  redis.call('SET', key, token, 'PX', told_lease or '${CLAIM_MS}')
  redis.call('HSET', state, 'f' .. slot, fence)
  leave_line(line, state, token)
  if not told_lease then redis.pcall('SPUBLISH', line, token) end
end
`;
