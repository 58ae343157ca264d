import { defineBatchScript } from '../pipelines/batch-protocol.js';
import { luaTime } from '../scripting/lua.js';
import { ABSENT, LIMITED, luaCounter, Refusal, SWEEP_LIMIT } from './lua-counter.js';

/**
 * The most characters of an integer that this computes with as it is: what a batch
 * comes to then stays far below 2^53.
 */
const PLAIN_VALUE = 15;
const PLAIN_AMOUNT = 12;

/**
 * Equal additions to one counter that is there, of which nothing is held, and no bound is met: nearly all that a caller
 * by itself sends. They come to what the rest comes to.
 */
const luaLoneAdds = `
local count, amount, bound = string.match(ARGV[4], '^(%d+),0,add,(%-?%d+),(%-?%d*),%d*,[cn]*,,$')
if count and #KEYS == 4 and #amount <= ${PLAIN_AMOUNT} and #bound <= ${PLAIN_VALUE} then
  local before = redis.pcall('GET', KEYS[2])
  if type(before) == 'string' and #before <= ${PLAIN_VALUE} and (before == '0' or string.find(before, '^%-?[1-9]%d*$')) then
    local step, limit = tonumber(amount), tonumber(bound)
    local target = before + step * count
    local fits = not limit or (step > 0 and target <= limit) or (step < 0 and target >= limit)
    if fits and redis.call('EXISTS', KEYS[4]) == 0 then
      if ARGV[3] ~= '' then
        local kept = redis.pcall('SET', KEYS[1], ARGV[2] .. '|' .. before, 'PX', ARGV[3])
        if kept.err then return kept end
      end
      if step ~= 0 then redis.call('SET', KEYS[2], string.format('%.0f', target), 'KEEPTTL') end
      return before
    end
  end
end
`;

/**
 * Applies a batch of operations on several counters, those on each in their order, with the effect
 * of once.
 *
 * The batch is known again by its lane and sequence number: a second copy gets the first one's
 * answers, one that comes after a newer batch, or for the first time after its time limit, does
 * nothing. Everything is judged before the first write.
 *
 * Most batches are additions of small numbers to existing counters without holds. These are judged
 * by Lua's own numbers; what it takes for the rest is not even defined before it is needed, since a
 * script pays for each of its functions at every call.
 */
export const applyScript = defineBatchScript({
  name: 'counters.apply',
  header: `
-- KEYS[2…] touched: the counters, each a signed 64-bit integer in decimal; then for each its life, the id of its present incarnation, kept as long as it may be
--   undone in; then for each its holds, a sorted set of "<quantity>:<nonce>" by expiry
-- ARGV[4…] runs: for each counter, joined by ";", runs of equal operations, of each these fields joined by ",":
--   count        how many they are
--   earlierByMs  how much earlier than the batch's their own time limit is
--   kind         add | undo | reset
--   amount       add: to add; undo: what was added
--   bound        add: of the value, in the direction in which the amount moves it, or ''
--   ttlMs        add: time to live of a counter this creates, or ''
--   detail       add: letters of c (clamp), s (sliding TTL), n (the result must be exact as a double), u (undoable); undo: the life that was added to;
--                reset: n or ''
--   life         undoable add: the id of a life that it begins, never used before; else ''
--   lifeTtlMs    undoable add: how long it can be undone; else ''
-- Returns a string: STALE | TOO_LATE, or the runs' answers joined by commas, of each counter one after the other:
--   any    late, or for all runs of a counter NOT_AN_INTEGER | WRONG_TYPE | MORE
--   add    <value before> when all were added in full, none of them undoable; else
--          <value before>:<how many were added in full>:<value after>:<what became of the others: '' | limited | overflow | inexact>:<life or ''>
--   undo   <value> | gone | overflow
--   reset  <previous value> | absent | inexact
`,
  lua: `
${luaTime}
local now, not_after = time_ms, tonumber(ARGV[1])
if now > not_after then return 'TOO_LATE' end
${luaLoneAdds}
-- The runs of a counter, as tables. plain: whether all are additions of small numbers that change nothing but a value.
local function parse(text)
  local runs = {plain = true}
  local fields = '([^,;]*),([^,;]*),([^,;]*),([^,;]*),([^,;]*),([^,;]*),([^,;]*),([^,;]*),([^,;]*)'
  for count, earlier, kind, amount, bound, ttl, detail, life, life_ttl in string.gmatch(text, fields) do
    runs[#runs + 1] = {
      count = tonumber(count), not_after = not_after - tonumber(earlier), kind = kind, amount = amount, bound = bound, ttl = ttl, detail = detail,
      life = life, life_ttl = life_ttl,
    }
    if kind ~= 'add' or #amount > ${PLAIN_AMOUNT} or #bound > ${PLAIN_VALUE} or string.find(detail, '[su]') then runs.plain = false end
  end
  return runs
end

-- What runs of plain additions come to, and what they are answered; nil where that takes more than they can tell.
local function judge_plain(runs, before)
  local answers = {}
  local value = tonumber(before)
  for i, run in ipairs(runs) do
    local step, bound = tonumber(run.amount), tonumber(run.bound)
    local target = value + step * run.count
    answers[i] = before
    if now > run.not_after then
      answers[i], target = '${Refusal.Late}', value
    elseif bound and ((step > 0 and target > bound) or (step < 0 and target < bound)) then
      if string.find(run.detail, 'c', 1, true) then return nil end
      local fits = math.max(0, math.floor((bound - value) / step))
      target = value + step * fits
      answers[i] = string.format('%s:%.0f:%.0f:${LIMITED}:', before, fits, target)
    end
    if target ~= value then value, before = target, string.format('%.0f', target) end
  end
  return before, table.concat(answers, ',')
end

-- Returns what opens a counter and judges its runs, whatever they are, what stores it, what makes those that are new, and what takes these back.
local function in_full()
  ${luaCounter}
  local room = ${SWEEP_LIMIT}
  local judge = {}

  function judge.add(c, run)
    local before, amount = c.value or INT64_ZERO, int64_parse(run.amount)
    local fits, rest, life = 0, '', ''
    while fits < run.count and rest == '' do
      local target, limited = counter_judge(c, amount, run.bound, run.bound, run.detail)
      if target then
        local _, added_to = counter_move(c, target, run.ttl, run.detail, run.life)
        if added_to ~= '' then life, c.life_ttl = added_to, run.life_ttl end
      end
      -- What one of them meets that is not added in full, the next meet too: nothing changes any more.
      if not target then rest = limited elseif limited then rest = '${LIMITED}' else fits = fits + 1 end
    end
    local value = c.value or INT64_ZERO
    return int64_format(before) .. ':' .. string.format('%.0f', fits) .. ':' .. int64_format(value) .. ':' .. rest .. ':' .. life
  end

  function judge.undo(c, run)
    if not c.value or counter_life(c) ~= run.detail then return '${Refusal.Gone}' end
    local target = int64_subtract(c.value, int64_parse(run.amount))
    if not int64_fits(target) then return '${Refusal.Overflow}' end
    c.value, c.changed = target, true
    return int64_format(target)
  end

  function judge.reset(c, run)
    if not c.value then return '${ABSENT}' end
    if run.detail == 'n' and not int64_is_safe(c.value) then return '${Refusal.Inexact}' end
    local previous = int64_format(c.value)
    c.value, c.changed, c.fresh, c.ttl = nil, true, false, nil
    counter_end_life(c)
    return previous
  end

  local function judge_counter(runs, key, life, holds)
    local c = counter_open(key, life, holds, now, room)
    room = room - c.swept
    local answered, for_all = {}, c.problem or (c.more and 'MORE')
    for i, run in ipairs(runs) do
      answered[i] = for_all or (now > run.not_after and '${Refusal.Late}') or judge[run.kind](c, run)
    end
    return c, table.concat(answered, ',')
  end

  local function create_all(counters)
    for _, c in pairs(counters) do
      local refused = counter_create(c)
      if refused then return refused end
    end
  end
  return judge_counter, counter_store, create_all, take_back
end

local spread = table.unpack or unpack
local n = math.floor((#KEYS - 1) / 3)
-- Nothing is held of any of them: mostly so, and asked for at once.
local no_holds = redis.call('EXISTS', spread(KEYS, 2 * n + 2, 3 * n + 1)) == 0
local judge_counter, store, create_all, take_back
local known, answers, values, opened = {}, {}, {}, {}
for k = 1, n do
  local text = ARGV[3 + k]
  local runs = known[text]
  if not runs then
    runs = parse(text)
    known[text] = runs
  end
  local value, answer
  if no_holds and runs.plain then
    local stored = redis.pcall('GET', KEYS[k + 1])
    if stored == '0' or (type(stored) == 'string' and #stored <= ${PLAIN_VALUE} and string.find(stored, '^%-?[1-9]%d*$')) then
      value, answer = judge_plain(runs, stored)
      if value ~= stored then values[k] = value end
    end
  end
  if not value then
    if not store then judge_counter, store, create_all, take_back = in_full() end
    opened[k], answer = judge_counter(runs, KEYS[k + 1], KEYS[n + k + 1], KEYS[2 * n + k + 1])
  end
  answers[k] = answer
end

-- The first writes need memory, so where there is none left they are refused before anything was done. A refusal of the whole
-- batch is remembered too, or another copy of it could be applied after the caller was told that it was not.
local answer = table.concat(answers, ',')
local refused = create_all and create_all(opened)
if refused then return refused end
if ARGV[3] ~= '' then
  local kept = redis.pcall('SET', KEYS[1], ARGV[2] .. '|' .. answer, 'PX', ARGV[3])
  if kept.err then
    if take_back then take_back(kept) end
    return kept
  end
end
for k = 1, n do
  if opened[k] then
    store(opened[k], opened[k].life_ttl)
  elseif values[k] then
    redis.call('SET', KEYS[k + 1], values[k], 'KEEPTTL')
  end
end
return answer
`,
});
