import { defineBatchScript, LATE } from '../pipelines/batch-protocol.js';
import { luaLimit, MORE, SWEEP_LIMIT, WRONG_TYPE } from './lua-limit.js';
import { luaTime } from '../scripting/lua.js';

/**
 * One call to limits that are there, without reservations and buckets: nearly all that a caller by
 * itself sends. It comes to what the rest comes to, whose functions are not even defined for it,
 * since a script pays for each of them at every call.
 */
const luaLoneTake = `
-- A short number is written as an integer, which costs far less. An integer has 32 bits on some servers.
local function digits(n) return string.format(n < 2147483648 and '%d' or '%.0f', n) end

local function take_alone()
  local n, answer, texts, ends, lets_through = 0, '', {}, {}, true
  for kind, modulus, room, room_rest, price, price_rest in string.gmatch(ARGV[4], '|([fg]),(%d+),(%d+),(%d+),(%d+),(%d+)') do
    n = n + 1
    local text = redis.pcall('GET', KEYS[n + 1])
    if type(text) ~= 'string' then return nil end
    modulus, price = modulus + 0, price + 0
    if kind == 'f' then
      local start, count = string.match(text, '^(%d+):(%d+)$')
      local left = start and start + modulus - time_ms
      -- The window is over.
      if not left or left <= 0 then return nil end
      local used = count + price
      answer = answer .. '|' .. count .. ':' .. digits(left)
      texts[n] = start .. ':' .. digits(used)
      lets_through = lets_through and used <= room + 0
    else
      local arrival, its_rest, parts = string.match(text, '^(%d+):(%d+):(%d+)$')
      if not arrival or parts + 0 ~= modulus then return nil end
      local used, rest = arrival - time_us, its_rest + 0
      if used < 0 then used, rest = 0, 0 end
      price_rest = price_rest + 0
      answer = answer .. '|' .. digits(used) .. ':' .. digits(rest)
      local next_arrival, next_rest = time_us + used + price, rest + price_rest
      if next_rest >= modulus then next_arrival, next_rest = next_arrival + 1, next_rest - modulus end
      texts[n] = digits(next_arrival) .. ':' .. digits(next_rest) .. ':' .. parts
      ends[n] = digits(math.floor(next_arrival / 1000) + 1)
      room, room_rest = room - used, room_rest - rest
      if room_rest < 0 then room, room_rest = room - 1, room_rest + modulus end
      lets_through = lets_through and (room > price or (room == price and room_rest >= price_rest))
    end
  end
  if n + 1 ~= #KEYS then return nil end
  answer = (lets_through and '1' or '0') .. answer
  if ARGV[3] ~= '' then
    local kept = redis.pcall('SET', KEYS[1], ARGV[2] .. '|' .. answer, 'PX', ARGV[3])
    if kept.err then return kept end
  end
  if lets_through then
    for i = 1, n do
      if ends[i] then redis.call('SET', KEYS[i + 1], texts[i], 'PXAT', ends[i]) else redis.call('SET', KEYS[i + 1], texts[i], 'KEEPTTL') end
    end
  end
  return answer
end
local answer_alone = #ARGV == 4 and string.sub(ARGV[4], 1, 4) == '1,0|' and take_alone()
if answer_alone then return answer_alone end
`;

/**
 * Takes from limits, in a batch, with the effect of once. Calls that are equal travel as one run:
 * the first of them that is refused changes nothing, so all behind it are refused, too, and their
 * number tells each its result.
 */
export const takeScript = defineBatchScript({
  name: 'limits.take',
  header: `
-- KEYS[2…] touched: for each limit of each run its state, and where it sweeps, its reservations
-- ARGV[4…] runs: "<count>,<earlierByMs>", "+" where it sweeps, and for each limit "|<kind>,<modulus>,<capacity>,<its rest>,<price>,<its rest>"
--   earlierByMs: how much earlier than the batch's its own time limit is
-- Returns a string: STALE | TOO_LATE, or the runs' answers joined by ";":
--   ${LATE} | ${MORE} | ${WRONG_TYPE},<index of the limit, from 0> | <how many calls were let through>|<each limit as it was before, joined by "|">
`,
  lua: `
${luaTime}
local not_after = tonumber(ARGV[1])
if time_ms > not_after then return 'TOO_LATE' end
${luaLoneTake}
${luaLimit}
local function parse(text)
  local count, earlier, sweeps = string.match(text, '^(%d+),(%d+)(%+?)')
  local run = specifications(text)
  run.step = sweeps == '' and 1 or 2
  run.text, run.count, run.not_after = count, tonumber(count), not_after - tonumber(earlier)
  return run
end

local known, limits, order, answers, opened, parts = {}, {}, {}, {}, {}, {}
local at, room = 2, ${SWEEP_LIMIT}
for i = 4, #ARGV do
  local text = ARGV[i]
  local run = known[text]
  if not run then
    run = parse(text)
    known[text] = run
  end
  local size, step = #run, run.step
  local answer = time_ms > run.not_after and '${LATE}'
  for j = 1, size do
    local key, spec = KEYS[at], run[j]
    local l = limits[key]
    if not l then
      l = open(key, step == 2 and KEYS[at + 1], spec, room)
      room = room - l.swept
      limits[key], order[#order + 1] = l, l
    elseif l.modulus ~= spec[2] then
      drop_rest(l, spec[2])
    end
    opened[j], at = l, at + step
    answer = answer or (l.problem and string.format('${WRONG_TYPE},%.0f', j - 1)) or (l.more and '${MORE}')
  end
  if not answer then
    local times = run.count
    for j = 1, size do
      parts[j] = describe(opened[j])
      if times > 0 then times = fits(opened[j], run[j], times) end
    end
    if times > 0 then
      for j = 1, size do charge(opened[j], run[j], times) end
    end
    answer = (times == run.count and run.text or string.format('%.0f', times)) .. '|' .. table.concat(parts, '|', 1, size)
  elseif answer == '${MORE}' then
    -- A run behind it on one of its limits waits with it, so that their order stays.
    for j = 1, size do opened[j].more = true end
  end
  answers[i - 3] = answer
end

-- New keys come first, then the state: these need memory, so where there is none left, all is taken back or was never done.
local answer = table.concat(answers, ';')
local created = {}
local function take_back(refusal)
  for _, key in ipairs(created) do redis.call('DEL', key) end
  return refusal
end
for i = 1, #order do
  local l = order[i]
  if l.changed then
    local text, ends = text_of(l)
    if text and not l.stored then
      local kept = redis.pcall('SET', l.key, text, 'PXAT', ends)
      if kept.err then return take_back(kept) end
      created[#created + 1], l.changed = l.key, false
    else
      l.text, l.ends = text, ends
    end
  end
end
if ARGV[3] ~= '' then
  local kept = redis.pcall('SET', KEYS[1], ARGV[2] .. '|' .. answer, 'PX', ARGV[3])
  if kept.err then return take_back(kept) end
end
for i = 1, #order do
  local l = order[i]
  if l.changed then store(l, l.text, l.ends) end
end
return answer
`,
});
