import { luaTextAt } from '../scripting/lua.js';
import { BUCKETS } from './limit.js';

/** The answer for a limit whose key holds something else. */
export const WRONG_TYPE = 'WRONG_TYPE';

/**
 * The answer when more reservations have lapsed than one script gives back: it gave back as many as
 * it may, and did nothing else.
 */
export const MORE = 'MORE';

/**
 * The most lapsed reservations that one script gives back. It bounds the time for which it keeps
 * the server from others.
 */
export const SWEEP_LIMIT = 1_000;

/**
 * Limits for scripts, pasted into their text behind {@link luaTime}: opened, changed in
 * memory, and written by the script's last commands.
 *
 * Amounts have a whole part and a rest in modulus-ths, so nothing is ever rounded. For gcra they
 * are times in µs with a rest in limit-ths; for the others they are numbers, whose rest is 0.
 *
 * A limit is stored as one string:
 * - g (gcra): "<µs since 1970>:<rest>:<limit>", the theoretical arrival time (TAT): what is used is
 *   its distance from now
 * - f (fixed): "<beginning of the window, ms>:<used>"
 * - s (sliding): "<bucket>:<used>,…", oldest first; a bucket's number is its beginning divided by
 *   its length, in µs
 *
 * and, while anything is reserved, behind it ";<reserved>:<rest>:<first lapse, ms>:<last lapse,
 * ms>". The reservations themselves are a sorted set of "<amount>:<rest>:<modulus>:<nonce>" by the
 * time at which they lapse. What is reserved counts as used until it is settled or lapses.
 *
 * A window that is stored stays when the server's clock steps back, so a step never lets more
 * through.
 *
 * A specification is {kind, modulus, capacity, its rest, price, its rest}.
 */
export const luaLimit = `${luaTextAt}
-- From "|<kind>,<modulus>,<capacity>,<its rest>,<price>,<its rest>|…".
local function specifications(text)
  local specs, n = {}, 0
  for kind, modulus, capacity, capacity_rest, price, price_rest in string.gmatch(text, '|(%a),(%d+),(%d+),(%d+),(%d+),(%d+)') do
    n = n + 1
    specs[n] = {kind, modulus + 0, capacity + 0, capacity_rest + 0, price + 0, price_rest + 0}
  end
  return specs
end

local function specification(text) return specifications('|' .. text)[1] end

local function drop_rest(l, modulus)
  -- Another limit for the same key: the parts are others. Rounded up, which never lets more through.
  if l.rest > 0 then l.used, l.rest = l.used + 1, 0 end
  if l.held_rest > 0 then l.held, l.held_rest = l.held + 1, 0 end
  l.modulus = modulus
end

-- Gives back what has lapsed, at most room of it.
local function sweep(l, room)
  if not l.holds_key then
    l.more = true
    return
  end
  local lapsed = redis.call('ZRANGEBYSCORE', l.holds_key, '-inf', string.format('%.0f', time_ms), 'LIMIT', 0, room)
  for _, hold in ipairs(lapsed) do
    local amount, rest, modulus = string.match(hold, '^(%d+):(%d+):(%d+):')
    l.held = l.held - tonumber(amount)
    if tonumber(modulus) == l.modulus then l.held_rest = l.held_rest - tonumber(rest) end
    if l.held_rest < 0 then l.held, l.held_rest = l.held - 1, l.held_rest + l.modulus end
  end
  l.swept, l.changed = #lapsed, true
  local left = redis.call('ZRANGE', l.holds_key, #lapsed, #lapsed, 'WITHSCORES')
  if left[1] then
    l.first = tonumber(left[2])
    l.more = l.first <= time_ms
  else
    l.held, l.held_rest, l.first, l.last = 0, 0, nil, nil
  end
end

-- Returns a limit as it is now. problem: its key holds something else. more: not all that has lapsed is given back yet,
-- or nothing of it where there is no holds_key.
local function open(key, holds_key, spec, room)
  local kind, modulus = spec[1], spec[2]
  local l = {key = key, holds_key = holds_key, kind = kind, modulus = modulus, used = 0, rest = 0, held = 0, held_rest = 0, swept = 0}
  local body, is_other = text_at(key)
  if is_other then
    l.problem = '${WRONG_TYPE}'
    return l
  end
  l.stored = body and true
  body = body or ''
  local bar = string.find(body, ';', 1, true)
  if bar then
    local held, rest, first, last = string.match(body, '^(%d+):(%d+):(%d+):(%d+)$', bar + 1)
    l.held, l.held_rest, l.first, l.last = tonumber(held), tonumber(rest), tonumber(first), tonumber(last)
    body = string.sub(body, 1, bar - 1)
    if not l.held then l.problem = '${WRONG_TYPE}' return l end
  end
  if kind == 'g' then
    if body ~= '' then
      local whole, rest, parts = string.match(body, '^(%d+):(%d+):(%d+)$')
      if not whole then l.problem = '${WRONG_TYPE}' return l end
      whole, l.modulus = tonumber(whole), tonumber(parts)
      if whole >= time_us then l.used, l.rest = whole - time_us, tonumber(rest) end
    end
  elseif kind == 'f' then
    l.start = time_ms - math.fmod(time_ms, modulus)
    if body ~= '' then
      local start, used = string.match(body, '^(%d+):(%d+)$')
      if not start then l.problem = '${WRONG_TYPE}' return l end
      start = start + 0
      if start >= l.start then
        l.start, l.used = start, used + 0
        -- It ends with the window. While anything was reserved it may end later.
        l.keeps_end = not bar
      end
    end
  else
    l.newest, l.buckets = math.floor(time_us / modulus), {}
    local seen = 0
    for bucket, used in string.gmatch(body, '(%d+):(%d+)') do
      seen = seen + 1
      l.buckets[seen] = {tonumber(bucket), tonumber(used)}
    end
    if body ~= '' and seen == 0 then l.problem = '${WRONG_TYPE}' return l end
    if seen > 0 then l.newest = math.max(l.newest, l.buckets[seen][1]) end
    while l.buckets[1] and l.buckets[1][1] < l.newest - ${BUCKETS} do table.remove(l.buckets, 1) end
    for _, bucket in ipairs(l.buckets) do l.used = l.used + bucket[2] end
  end
  if l.first and l.first <= time_ms then sweep(l, room) end
  if l.modulus ~= modulus then drop_rest(l, modulus) end
  return l
end

-- Returns how long a bucket is looked at.
local function leaves_in_ms(l, bucket)
  return math.ceil(((bucket + ${BUCKETS + 1}) * l.modulus - time_us) / 1000)
end

-- Returns a limit's part of an answer:
--   g  <used, µs>:<rest>
--   f  <used>:<ms until the window ends>
--   s  <used>:<ms until what is taken now leaves>.<ms until the oldest bucket leaves>.<used in it>.…
-- and, while anything is reserved, behind it :<reserved>:<rest>:<ms until the first lapse>
local function describe(l)
  local text
  if l.kind == 'g' then
    text = string.format('%.0f:%.0f', l.used, l.rest)
  elseif l.kind == 'f' then
    text = string.format('%.0f:%.0f', l.used, l.start + l.modulus - time_ms)
  else
    local parts = {string.format('%.0f:%.0f', l.used, leaves_in_ms(l, l.newest))}
    for i, bucket in ipairs(l.buckets) do
      parts[i + 1] = string.format('%.0f.%.0f', leaves_in_ms(l, bucket[1]), bucket[2])
    end
    text = table.concat(parts, '.')
  end
  if not l.first then return text end
  return text .. string.format(':%.0f:%.0f:%.0f', l.held, l.held_rest, l.first - time_ms)
end

-- Returns how often the price fits, at most count times.
local function fits(l, spec, count)
  local modulus, price, price_rest = spec[2], spec[5], spec[6]
  local room, room_rest = spec[3] - l.used - l.held, spec[4] - l.rest - l.held_rest
  while room_rest < 0 do room, room_rest = room - 1, room_rest + modulus end
  while room_rest >= modulus do room, room_rest = room + 1, room_rest - modulus end
  if room < price or (room == price and room_rest < price_rest) then return 0 end
  if count == 1 then return 1 end
  local function covers(times)
    local rest = math.fmod(times * price_rest, modulus)
    local whole = times * price + math.floor((times * price_rest - rest) / modulus)
    return whole < room or (whole == room and rest <= room_rest)
  end
  -- Of doubles: off by one at most, which is then looked at exactly.
  local times = math.min(count, math.floor((room + room_rest / modulus) / (price + price_rest / modulus)))
  if not covers(times) then return times - 1 end
  if times < count and covers(times + 1) then return times + 1 end
  return times
end

-- Takes the price as often as fits said.
local function charge(l, spec, times)
  local rest = l.rest + times * spec[6]
  l.rest = math.fmod(rest, l.modulus)
  local amount = times * spec[5] + math.floor((rest - l.rest) / l.modulus)
  l.used, l.changed = l.used + amount, true
  if l.kind ~= 's' then return end
  local last = l.buckets[#l.buckets]
  if last and last[1] == l.newest then
    last[2] = last[2] + amount
  else
    l.buckets[#l.buckets + 1] = {l.newest, amount}
  end
end

-- Returns what is stored for it, and until when, in ms, or nil for as long as it is; nothing where a limit that is not stored says the same.
local function text_of(l)
  local text, ends = nil, 0
  if l.kind == 'g' then
    if l.used > 0 or l.rest > 0 or l.first then
      text = string.format('%.0f:%.0f:%.0f', time_us + l.used, l.rest, l.modulus)
      ends = math.floor((time_us + l.used) / 1000) + 1
    end
  elseif l.kind == 'f' then
    if l.used > 0 or l.first then
      text = string.format('%.0f:%.0f', l.start, l.used)
      if l.keeps_end and not l.first then return text end
      ends = l.start + l.modulus
    end
  elseif l.used > 0 or l.first then
    local parts = {}
    for i, bucket in ipairs(l.buckets) do parts[i] = string.format('%.0f:%.0f', bucket[1], bucket[2]) end
    text = table.concat(parts, ',')
    ends = time_ms + 1 + leaves_in_ms(l, l.newest)
  end
  if l.first then
    text = text .. string.format(';%.0f:%.0f:%.0f:%.0f', l.held, l.held_rest, l.first, l.last)
    ends = math.max(ends, l.last)
  end
  return text, string.format('%.0f', ends)
end

-- Writes a limit, after which it is not used again. ended: a reservation of it that is over.
local function store(l, text, ends, ended)
  if not text then redis.call('DEL', l.key)
  elseif ends then redis.call('SET', l.key, text, 'PXAT', ends)
  else redis.call('SET', l.key, text, 'KEEPTTL') end
  if not l.first then
    if ended or l.swept > 0 then redis.call('UNLINK', l.holds_key) end
    return
  end
  if l.swept > 0 then redis.call('ZREMRANGEBYRANK', l.holds_key, 0, l.swept - 1) end
  if ended then redis.call('ZREM', l.holds_key, ended) end
end
`;

/** Reservations of limits for scripts, behind {@link luaLimit}. */
export const luaReservation = `
-- Counts the price as used until it lapses, at lapses in ms. Only what fits.
local function reserve(l, spec, lapses)
  l.held, l.held_rest, l.changed = l.held + spec[5], l.held_rest + spec[6], true
  if l.held_rest >= l.modulus then l.held, l.held_rest = l.held + 1, l.held_rest - l.modulus end
  -- No reservation is left, or those of a limit that is gone, which are void: all are deleted.
  if not l.first then l.begins, l.swept = true, 0 end
  l.first, l.last = math.min(l.first or lapses, lapses), math.max(l.last or lapses, lapses)
end

-- Ends a reservation. Returns false where there is none: it has lapsed, or was settled before.
local function unreserve(l, hold)
  local lapses = tonumber(redis.call('ZSCORE', l.holds_key, hold) or nil)
  if not l.first or not lapses or lapses <= time_ms then return false end
  local amount, rest, modulus = string.match(hold, '^(%d+):(%d+):(%d+):')
  l.held, l.changed = l.held - tonumber(amount), true
  if tonumber(modulus) == l.modulus then l.held_rest = l.held_rest - tonumber(rest) end
  if l.held_rest < 0 then l.held, l.held_rest = l.held - 1, l.held_rest + l.modulus end
  -- The next two: one of them may be this one.
  local left = redis.call('ZRANGE', l.holds_key, l.swept, l.swept + 1, 'WITHSCORES')
  local first = left[1] == hold and left[4] or left[2]
  if left[1] == hold and not left[3] then
    l.held, l.held_rest, l.first, l.last = 0, 0, nil, nil
  else
    l.first = tonumber(first)
  end
  return true
end
`;
