import { luaTime } from '../scripting/lua.js';

/**
 * Time for which what is known of a name outlives its last use, in milliseconds: its fences rise
 * across any pause that is shorter.
 */
const KEPT_MS = 7 * 86_400_000;

/** It is renewed by the first use in each hour, in µs. */
export const KEPT_AGAIN_US = 3_600_000_000;

/**
 * Length of the lease of one that was given a permit while it waited, until it takes it, in
 * milliseconds.
 */
export const CLAIM_MS = 1_000;

/** Entries of the line that one call looks at. */
const MAX_SEEN = 256;

/** The life that each renewal gives it, in milliseconds. */
export const KEPT_FOR_MS = KEPT_MS + KEPT_AGAIN_US / 1_000;

/** A token begins with the name of its service instance, which has as many characters. */
export const PROCESS_LENGTH = 16;

/** Lost permits of a slot that are remembered, the newest. */
const LOST_KEPT = 64;

/** The length of a fence's digits until the year 2286, and of a comma. */
const LOST_LENGTH = 17;

/**
 * Shared by the scripts on permits.
 *
 * A slot holds the token of its holder for as long as the lease lasts. A release leaves `.<token>`
 * in it for a while; `,<token>` where some in line were not looked at. So a release that finds
 * nothing knows that the lease of the last holder has ended, and notes that it was lost. By that a
 * copy of a release finds out what became of the permit, however many held it since.
 *
 * The state is a hash. `f<slot>` is the last fence of a slot, `l<slot>` those of the last permits
 * that were lost, each with a comma. `w<token>` is `<until>:<lease>` of one that waits: the server
 * time in ms until which it is taken to be alive, and the length of the lease that it wants.
 * `c<token>` is there for a call that was sent again; `o<number>` are those calls in a row, as
 * `<token>@<time limit>`, and `c` is `<first>:<next>` of the numbers. A fence is above every one
 * before it, and at least the time in µs, so that fences also rise where the hash was lost.
 *
 * `next_in_line(line, state, ms, count, stop)` returns the tokens of the first `count` that wait
 * and are alive, and of those ahead of them that are not. It ends at `stop(token, ticket)`, and
 * tells by its third result whether it ended there, and by its fourth whether the line has no more.
 */
export const luaPermit = `
local function digits(n) return string.format('%.0f', n) end

local function is_free(holder) return not holder or string.find(holder, '^[.,]') ~= nil end

local function fence_after(last, us)
  return digits(math.max((tonumber(last or nil) or 0) + 1, us))
end

local function keep(key) redis.call('PEXPIRE', key, '${KEPT_FOR_MS}') end

-- Gives a free slot to a token. holder, last: the slot and its last fence as they were.
local function occupy(key, line, slot, token, lease, state, fence, holder, last, us)
  redis.call('HSET', state, 'f' .. slot, fence)
  redis.call('SET', key, token, 'PX', lease)
  if not holder and last then
    local lost = (redis.call('HGET', state, 'l' .. slot) or '') .. last .. ','
    redis.call('HSET', state, 'l' .. slot, string.sub(lost, -${LOST_KEPT * LOST_LENGTH}))
  end
  if not last or math.floor(us / ${KEPT_AGAIN_US}) ~= math.floor(last / ${KEPT_AGAIN_US}) then
    keep(state)
    keep(line)
  end
end

local function is_lost(state, slot, fence)
  local lost = redis.call('HGET', state, 'l' .. slot) or ''
  if string.find(lost, fence .. ',', 1, true) then return true end
  -- Older than all that are remembered.
  return #lost == ${LOST_KEPT * LOST_LENGTH} and tonumber(fence) < tonumber(string.sub(lost, 1, ${LOST_LENGTH - 1}))
end

local function process_of(token) return string.sub(token, 1, ${PROCESS_LENGTH}) end

local function leave_line(line, state, token)
  redis.call('ZREM', line, token)
  redis.call('HDEL', state, 'w' .. token)
end

local function is_alive(waiting, ms)
  local until_ms = tonumber(string.match(waiting or '', '^%d+') or nil)
  return until_ms ~= nil and until_ms >= ms
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
      if is_alive(redis.call('HGET', state, 'w' .. token), ms) then alive[#alive + 1] = token else dead[#dead + 1] = token end
    end
  end
  return alive, dead, false, false
end

-- The message is a courtesy, and fails in silence if the user may not publish.
local function wake(line, token) redis.pcall('SPUBLISH', line, token) end
`;

/**
 * Hands slots on, behind {@link luaPermit}: `hand_on(key, slot, token, state, line,
 * kept, max_row)` gives the slot of `token` to the first in line that is alive, or leaves it free.
 * A caller of the same process learns it from the answer, `released:<token>:<slot>:<fence>:<row>`,
 * and has its whole lease at once. Another has a short one, and is woken.
 *
 * The row consists of the next callers of the same process and lease, at most `max_row`: the permit
 * passes to them within the process. They stay in line. A fence is set aside for each: the answer
 * tells the last.
 */
export const luaHandOn = `
local spread = table.unpack or unpack

local function row_behind(first, lease, state, line, max_row)
  local next = max_row > 0 and redis.call('ZRANGE', line, '0', digits(max_row - 1)) or {}
  if #next == 0 then return next end
  local fields, row = {}, {}
  for i, token in ipairs(next) do fields[i] = 'w' .. token end
  local waits = redis.call('HMGET', state, spread(fields))
  for i, token in ipairs(next) do
    if process_of(token) ~= process_of(first) or string.match(waits[i] or '', ':(%d+)$') ~= lease then break end
    row[i] = token
  end
  return row
end

local function hand_on(key, slot, token, state, line, kept, max_row)
  local mark = '.'
  local first = redis.call('ZRANGE', line, '0', '0')[1]
  if first then
    ${luaTime}
    for seen = 1, ${MAX_SEEN} do
      local known = redis.call('HMGET', state, 'w' .. first, 'f' .. slot)
      leave_line(line, state, first)
      if is_alive(known[1], time_ms) then
        local lease = string.match(known[1], ':(%d+)$')
        local fence, is_told = fence_after(known[2], time_us), process_of(first) == process_of(token)
        local row = is_told and row_behind(first, lease, state, line, max_row) or {}
        if #row > 0 then fence = digits(tonumber(fence) + #row) end
        occupy(key, line, slot, first, is_told and lease or '${CLAIM_MS}', state, fence, token, known[2], time_us)
        if is_told then return 'released:' .. first .. ':' .. slot .. ':' .. fence .. ':' .. table.concat(row, ',') end
        wake(line, first)
        return 'released'
      end
      first = redis.call('ZRANGE', line, '0', '0')[1]
      if not first then break end
    end
    if first then mark = ',' end
  end
  -- A full Redis refuses the mark. A copy is then told that the permit was lost.
  local marked = redis.pcall('SET', key, mark .. token, 'PX', kept)
  if type(marked) == 'table' and marked.err then redis.call('DEL', key) end
  return 'released'
end
`;
