import { luaInt64 } from '../redis/lua-int64.js';
import { luaNow } from '../redis/lua.js';
import { defineScript } from '../redis/script.js';

/** How many arguments describe one operation. */
export const FIELDS_PER_OPERATION = 7;

/** What the script answers for a whole batch instead of its operations' answers. */
export const BatchAnswer = {
  /** A later batch of this producer was applied to this counter: this one is an old copy, and nothing was done. */
  Stale: 'STALE',
  /** The counter holds a string that is no 64-bit integer as Redis spells one. */
  NotAnInteger: 'NOT_AN_INTEGER',
  /** The counter is a list, a hash, or another type. */
  WrongType: 'WRONG_TYPE',
} as const;

/** What the script answers for one operation that it did not do. Any other answer is a result. */
export const Refusal = {
  /** The result would not fit into 64 bits. */
  Overflow: 'overflow',
  /** The result would not be exact as a JavaScript number. */
  Inexact: 'inexact',
  /** The operation's own time limit had passed, though not that of its batch. */
  Late: 'late',
  /** The counter to undo in is gone, or another one has taken its name. */
  Gone: 'gone',
} as const;

/** The answer to a `reset` of a counter that did not exist. */
export const ABSENT = 'absent';

/**
 * Applies a batch of operations to one counter, in their order and with the effect of once.
 *
 * The batch is known again by its producer and sequence number: a second copy gets the first one's answers, one that comes
 * after a newer batch, or for the first time after its time limit, does nothing. Everything is judged before the first write.
 */
export const applyScript = defineScript({
  name: 'counters.apply',
  keys: ['counter', 'producer', 'life'],
  args: ['notAfterMs', 'sequence', 'stateTtlMarginMs', 'lifeId', 'lifeTtlMs', '...operations'],
  reply: String,
  lua: `
-- KEYS[1]  the counter: a signed 64-bit integer in decimal
-- KEYS[2]  the producer's state: "<sequence>|<answers>" of its last batch on this counter
-- KEYS[3]  the counter's life: the id of its present incarnation, kept as long as it may be undone in
-- ARGV[1]  notAfterMs: time limit of the batch, milliseconds of Redis's clock
-- ARGV[2]  sequence: of the batch, an integer below 2^53, growing per producer
-- ARGV[3]  stateTtlMarginMs: how long the producer's state outlives notAfterMs
-- ARGV[4]  lifeId: prefix of ids for lives that begin in this batch, never used before
-- ARGV[5]  lifeTtlMs: how long an add can be undone
-- ARGV[6…] per operation:
--   +0 kind         add | undo | reset
--   +1 amount       add: to add; undo: what was added; reset: ''
--   +2 min          add: lower bound or ''
--   +3 max          add: upper bound or ''
--   +4 ttlMs        add: time to live of a counter this creates, or ''
--   +5 detail       add: letters of c (clamp), s (sliding TTL), n (the result must be exact as a double), u (undoable)
--                   undo: the life that was added to; reset: 'n' or ''
--   +6 earlierByMs  how much earlier than the batch's the operation's own time limit is
-- Returns a string: STALE | TOO_LATE | NOT_AN_INTEGER | WRONG_TYPE, or the operations' answers joined by commas:
--   add    <value>:<applied>:<1 if limited, else 0>:<life if undoable and applied> | overflow | inexact | late
--   undo   <value> | gone | overflow | late
--   reset  <previous value> | absent | inexact | late
${luaNow}${luaInt64}
local sequence = tonumber(ARGV[2])
local state = redis.call('GET', KEYS[2])
if state then
  local bar = string.find(state, '|', 1, true)
  local last = tonumber(string.sub(state, 1, bar - 1))
  if last > sequence then return '${BatchAnswer.Stale}' end
  if last == sequence then return string.sub(state, bar + 1) end
end

local now, not_after = now_ms(), tonumber(ARGV[1])
if now > not_after then return 'TOO_LATE' end

-- The first write of all: it needs memory, so where Redis has none left it is refused before anything was done. A refusal of the whole
-- batch is remembered too, or another copy of it could be applied after the caller was told that it was not.
local function remember(answers)
  redis.call('SET', KEYS[2], ARGV[2] .. '|' .. answers, 'PX', string.format('%.0f', not_after - now + tonumber(ARGV[3])))
  return answers
end

-- The counter as it will be: value is nil while there is none; fresh means that it begins in this batch.
local value, changed, fresh, ttl = nil, false, false, nil
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then return remember('${BatchAnswer.WrongType}') end
if stored then
  value = int64_parse(stored)
  if not value then return remember('${BatchAnswer.NotAnInteger}') end
end

local life, life_known, life_write, life_end = nil, false, false, false

local function end_life()
  life, life_known, life_write, life_end = nil, true, false, true
end

local function current_life()
  if not life_known then
    life = redis.call('GET', KEYS[3]) or nil
    life_known = true
  end
  return life
end

local function add(i)
  local amount, detail = int64_parse(ARGV[i + 1]), ARGV[i + 5]
  local current = value or INT64_ZERO
  local target, limited = int64_add(current, amount), false
  -- 1 up, -1 down. Only the bound that the counter moves towards is judged.
  local direction = int64_compare(amount, INT64_ZERO)
  local bound = ''
  if direction < 0 then bound = ARGV[i + 2] elseif direction > 0 then bound = ARGV[i + 3] end
  if bound ~= '' then
    local limit = int64_parse(bound)
    if int64_compare(target, limit) == direction then
      limited = true
      -- A value that is beyond the bound already stays where it is.
      local has_room = int64_compare(limit, current) == direction
      if has_room and string.find(detail, 'c', 1, true) then target = limit else target = current end
    end
  end
  if not int64_fits(target) then return '${Refusal.Overflow}' end
  if string.find(detail, 'n', 1, true) and not int64_is_safe(target) then return '${Refusal.Inexact}' end

  local applied, life_id = int64_subtract(target, current), ''
  if int64_compare(applied, INT64_ZERO) ~= 0 then
    if not value then
      end_life()
      fresh, ttl = true, ARGV[i + 4]
    elseif string.find(detail, 's', 1, true) then
      ttl = ARGV[i + 4]
    end
    value, changed = target, true
    if string.find(detail, 'u', 1, true) then
      -- With its position: a batch that resets and adds again begins two lives.
      life_id = current_life() or (ARGV[4] .. '.' .. string.format('%.0f', i))
      life, life_write = life_id, true
    end
  end
  return int64_format(target) .. ':' .. int64_format(applied) .. ':' .. (limited and '1' or '0') .. ':' .. life_id
end

local function undo(i)
  if not value or current_life() ~= ARGV[i + 5] then return '${Refusal.Gone}' end
  local target = int64_subtract(value, int64_parse(ARGV[i + 1]))
  if not int64_fits(target) then return '${Refusal.Overflow}' end
  value, changed = target, true
  return int64_format(target)
end

local function reset(i)
  if not value then return '${ABSENT}' end
  if ARGV[i + 5] == 'n' and not int64_is_safe(value) then return '${Refusal.Inexact}' end
  local previous = int64_format(value)
  value, changed, fresh, ttl = nil, true, false, nil
  end_life()
  return previous
end

local judge = { add = add, undo = undo, reset = reset }
local answers = {}
for i = 6, #ARGV, ${FIELDS_PER_OPERATION} do
  local answer = '${Refusal.Late}'
  if now <= not_after - tonumber(ARGV[i + 6]) then answer = judge[ARGV[i]](i) end
  answers[#answers + 1] = answer
end

remember(table.concat(answers, ','))
if changed then
  if not value then
    redis.call('DEL', KEYS[1])
  elseif ttl and ttl ~= '' then
    redis.call('SET', KEYS[1], int64_format(value), 'PX', ttl)
  elseif fresh then
    redis.call('SET', KEYS[1], int64_format(value))
  else
    redis.call('SET', KEYS[1], int64_format(value), 'KEEPTTL')
  end
end
if life_write then
  redis.call('SET', KEYS[3], life, 'PX', ARGV[5])
elseif life_end then
  redis.call('DEL', KEYS[3])
end
return table.concat(answers, ',')
`,
});
