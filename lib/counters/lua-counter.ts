import { luaTextAt } from '../scripting/lua.js';
import { luaInt64 } from '../scripting/lua-int64.js';
import { luaCreate } from '../operations/lua-operation.js';
import { LATE } from '../pipelines/batch-protocol.js';

/**
 * The answers of a script instead of an operation's result when the key is no counter, or when it
 * came to nothing yet.
 */
export const CounterState = {
  /** The counter holds a string that is no 64-bit integer as Redis spells one. */
  NotAnInteger: 'NOT_AN_INTEGER',
  /** The counter is a list, a hash, or another type. */
  WrongType: 'WRONG_TYPE',
  /**
   * More holds have expired than one script gives back: those it could are given back, and the
   * operation was not done. Ask again.
   */
  More: 'MORE',
} as const;

/** The answers of a script for one operation that it did not do. */
export const Refusal = {
  /** The result would not fit into 64 bits. */
  Overflow: 'overflow',
  /** The result would not be exact as a JavaScript number. */
  Inexact: 'inexact',
  /** The operation's own time limit had passed, though not that of its batch. */
  Late: LATE,
  /** The counter to undo in, or the hold, is gone. */
  Gone: 'gone',
} as const;

/** The answers of a script if a bound kept an addition from being made in full. */
export const LIMITED = 'limited';

/** The answer to a read or `reset` of a counter that does not exist. */
export const ABSENT = 'absent';

/**
 * The most expired holds that one script gives back. It bounds the time for which it keeps the
 * server from others.
 */
export const SWEEP_LIMIT = 1_000;

/**
 * The time by which the holds of a counter with a time to live outlive it, so that one whose time
 * is prolonged past the library does not lose them; a hold that is lost is never given back.
 */
const HOLDS_TTL_MARGIN_MS = 86_400_000;

/**
 * A counter for scripts, pasted into their text: opened, changed in memory, and stored by the
 * script's last writes.
 *
 * A counter is worth what is stored and the quantities of its expired holds. Opening it counts
 * these in; storing it takes them off the holds and writes their sum, so every script that touches
 * a counter gives back what has expired.
 *
 * Holds are a sorted set of `<quantity>:<nonce>` by the time at which they expire, in milliseconds
 * of Redis's clock. They belong to the present incarnation of their counter: it takes them with it
 * when it ends.
 */
export const luaCounter = `${luaInt64}${luaCreate}${luaTextAt}
local function quantity_of(hold)
  return int64_parse(string.match(hold, '^%d+'))
end

-- A table: value (nil when there is none), problem (when it is no counter), more (when more has expired than room allows).
local function counter_open(key, life_key, holds_key, now, room)
  local c = {key = key, life_key = life_key, holds_key = holds_key, swept = 0}
  local stored, is_other = text_at(key)
  if is_other then
    c.problem = '${CounterState.WrongType}'
    return c
  end
  if not stored then
    c.holds_end, c.absent = true, true
    return c
  end
  c.value = int64_parse(stored)
  if not c.value then
    c.problem = '${CounterState.NotAnInteger}'
    return c
  end
  local expired = redis.call('ZRANGEBYSCORE', holds_key, '-inf', string.format('%.0f', now), 'LIMIT', 0, room + 1)
  for i, hold in ipairs(expired) do
    if i > room then
      c.more = true
      break
    end
    local value = int64_add(c.value, quantity_of(hold))
    -- A counter that was raised so far meanwhile: the rest stays held until there is room for it.
    if not int64_fits(value) then break end
    c.value, c.swept, c.changed = value, i, true
  end
  return c
end

local function counter_end_life(c)
  c.life, c.life_known, c.life_write, c.life_end = nil, true, false, true
  c.holds_end = true
end

local function counter_life(c)
  if not c.life_known then
    c.life = redis.call('GET', c.life_key) or nil
    c.life_known = true
  end
  return c.life
end

-- What adding comes to: the value, and whether a bound kept the amount from being added; or nil and a refusal.
-- detail: letters of c (clamp), n (the value must be exact as a double).
local function counter_judge(c, amount, min, max, detail)
  local current = c.value or INT64_ZERO
  local target, limited = int64_add(current, amount), false
  -- 1 up, -1 down. Only the bound that the counter moves towards is judged.
  local direction = int64_compare(amount, INT64_ZERO)
  local bound = ''
  if direction < 0 then bound = min elseif direction > 0 then bound = max end
  if bound ~= '' then
    local limit = int64_parse(bound)
    if int64_compare(target, limit) == direction then
      limited = true
      -- A value that is beyond the bound already stays where it is.
      local has_room = int64_compare(limit, current) == direction
      if has_room and string.find(detail, 'c', 1, true) then target = limit else target = current end
    end
  end
  if not int64_fits(target) then return nil, '${Refusal.Overflow}' end
  if string.find(detail, 'n', 1, true) and not int64_is_safe(target) then return nil, '${Refusal.Inexact}' end
  return target, limited
end

-- Moves it to what counter_judge allowed. detail: letters of s (sliding TTL), u (undoable). Returns what was applied, and the life to undo it in or ''.
local function counter_move(c, target, ttl, detail, new_life)
  local applied, life = int64_subtract(target, c.value or INT64_ZERO), ''
  if int64_compare(applied, INT64_ZERO) == 0 then return applied, life end
  if not c.value then
    counter_end_life(c)
    c.fresh, c.ttl = true, ttl
  elseif string.find(detail, 's', 1, true) then
    c.ttl = ttl
  end
  c.value, c.changed = target, true
  if string.find(detail, 'u', 1, true) then
    life = counter_life(c) or new_life
    c.life, c.life_write = life, true
  end
  return applied, life
end

-- <value>:<applied>:<1 if limited, else 0>:<life>
local function counter_answer(value, applied, limited, life)
  return int64_format(value) .. ':' .. int64_format(applied) .. ':' .. (limited and '1' or '0') .. ':' .. life
end

-- Writes the value of one that was not there, ahead of all other writes. Returns the refusal where there is no memory for it.
local function counter_create(c)
  if not c.absent or not c.changed or not c.value then return nil end
  c.changed = false
  if c.ttl and c.ttl ~= '' then return create(c.key, int64_format(c.value), 'PX', c.ttl) end
  return create(c.key, int64_format(c.value))
end

-- Writes it, after which it is not used again. hold: c.hold with c.hold_until, or nil there to take it off.
local function counter_store(c, life_ttl)
  -- First what needs memory: where Redis has none left, that refuses the script before it did anything.
  if c.changed then
    if not c.value then
      redis.call('DEL', c.key)
    elseif c.ttl and c.ttl ~= '' then
      redis.call('SET', c.key, int64_format(c.value), 'PX', c.ttl)
    elseif c.fresh then
      redis.call('SET', c.key, int64_format(c.value))
    else
      redis.call('SET', c.key, int64_format(c.value), 'KEEPTTL')
    end
  end
  if c.holds_end then
    redis.call('UNLINK', c.holds_key)
  elseif c.swept > 0 then
    redis.call('ZREMRANGEBYRANK', c.holds_key, 0, c.swept - 1)
  end
  if c.hold and c.hold_until then
    redis.call('ZADD', c.holds_key, string.format('%.0f', c.hold_until), c.hold)
  elseif c.hold then
    redis.call('ZREM', c.holds_key, c.hold)
  end
  if c.hold_until or (c.ttl and c.ttl ~= '') then
    local left = redis.call('PTTL', c.key)
    if left >= 0 then
      redis.call('PEXPIRE', c.holds_key, string.format('%.0f', left + ${HOLDS_TTL_MARGIN_MS}))
    else
      redis.call('PERSIST', c.holds_key)
    end
  end
  if c.life_write then
    redis.call('SET', c.life_key, c.life, 'PX', life_ttl)
  elseif c.life_end then
    redis.call('DEL', c.life_key)
  end
end
`;
