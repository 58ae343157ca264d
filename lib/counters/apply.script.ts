import { luaNow } from '../redis/lua.js';
import { defineScript } from '../redis/script.js';
import { ABSENT, luaCounter, Refusal, SWEEP_LIMIT } from './lua-counter.js';

/** How many arguments describe one operation. */
export const FIELDS_PER_OPERATION = 7;

/** The answer when a later batch of this producer was applied to this counter: this one is an old copy, and nothing was done. */
export const STALE = 'STALE';

/**
 * Applies a batch of operations to one counter, in their order and with the effect of once.
 *
 * The batch is known again by its producer and sequence number: a second copy gets the first one's answers, one that comes
 * after a newer batch, or for the first time after its time limit, does nothing. Everything is judged before the first write.
 */
export const applyScript = defineScript({
  name: 'counters.apply',
  keys: ['counter', 'producer', 'life', 'holds'],
  args: ['notAfterMs', 'sequence', 'stateTtlMarginMs', 'lifeId', 'lifeTtlMs', '...operations'],
  reply: String,
  lua: `
-- KEYS[1]  counter: a signed 64-bit integer in decimal
-- KEYS[2]  producer: the state of the producer, "<sequence>|<answers>" of its last batch on this counter
-- KEYS[3]  life: the id of the counter's present incarnation, kept as long as it may be undone in
-- KEYS[4]  holds: what is held of the counter, a sorted set of "<quantity>:<nonce>" by expiry
-- ARGV[1]  notAfterMs: time limit of the batch, milliseconds of Redis's clock
-- ARGV[2]  sequence: of the batch, an integer below 2^53, growing per producer; '' for a batch that is sent once and not remembered
-- ARGV[3]  stateTtlMarginMs: how long the producer's state outlives notAfterMs
-- ARGV[4]  lifeId: prefix of ids for lives that begin in this batch, never used before
-- ARGV[5]  lifeTtlMs: how long an add can be undone
-- ARGV[6…] operations, for each:
--   +0 kind         add | undo | reset
--   +1 amount       add: to add; undo: what was added; reset: ''
--   +2 min          add: lower bound or ''
--   +3 max          add: upper bound or ''
--   +4 ttlMs        add: time to live of a counter this creates, or ''
--   +5 detail       add: letters of c (clamp), s (sliding TTL), n (the result must be exact as a double), u (undoable)
--                   undo: the life that was added to; reset: 'n' or ''
--   +6 earlierByMs  how much earlier than the batch's the operation's own time limit is
-- Returns a string: STALE | TOO_LATE | NOT_AN_INTEGER | WRONG_TYPE | MORE, or the operations' answers joined by commas:
--   add    <value>:<applied>:<1 if limited, else 0>:<life if undoable and applied> | overflow | inexact | late
--   undo   <value> | gone | overflow | late
--   reset  <previous value> | absent | inexact | late
${luaNow}${luaCounter}
local sequence = tonumber(ARGV[2])
local state = sequence and redis.call('GET', KEYS[2])
if state then
  local bar = string.find(state, '|', 1, true)
  local last = tonumber(string.sub(state, 1, bar - 1))
  if last > sequence then return '${STALE}' end
  if last == sequence then return string.sub(state, bar + 1) end
end

local now, not_after = now_ms(), tonumber(ARGV[1])
if now > not_after then return 'TOO_LATE' end

-- The first write of all: it needs memory, so where Redis has none left it is refused before anything was done. A refusal of the whole
-- batch is remembered too, or another copy of it could be applied after the caller was told that it was not.
local function remember(answers)
  if sequence then
    redis.call('SET', KEYS[2], ARGV[2] .. '|' .. answers, 'PX', string.format('%.0f', not_after - now + tonumber(ARGV[3])))
  end
  return answers
end

local c = counter_open(KEYS[1], KEYS[3], KEYS[4], now, ${SWEEP_LIMIT})
if c.problem then return remember(c.problem) end
if c.more then
  remember('MORE')
  counter_store(c)
  return 'MORE'
end

local judge = {}

function judge.add(i)
  local detail = ARGV[i + 5]
  local target, limited = counter_judge(c, int64_parse(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3], detail)
  if not target then return limited end
  local new_life
  -- With its position: a batch that resets and adds again begins two lives.
  if string.find(detail, 'u', 1, true) then new_life = ARGV[4] .. '.' .. string.format('%.0f', i) end
  local applied, life = counter_move(c, target, ARGV[i + 4], detail, new_life)
  return counter_answer(target, applied, limited, life)
end

function judge.undo(i)
  if not c.value or counter_life(c) ~= ARGV[i + 5] then return '${Refusal.Gone}' end
  local target = int64_subtract(c.value, int64_parse(ARGV[i + 1]))
  if not int64_fits(target) then return '${Refusal.Overflow}' end
  c.value, c.changed = target, true
  return int64_format(target)
end

function judge.reset(i)
  if not c.value then return '${ABSENT}' end
  if ARGV[i + 5] == 'n' and not int64_is_safe(c.value) then return '${Refusal.Inexact}' end
  local previous = int64_format(c.value)
  c.value, c.changed, c.fresh, c.ttl = nil, true, false, nil
  counter_end_life(c)
  return previous
end

local answers = {}
for i = 6, #ARGV, ${FIELDS_PER_OPERATION} do
  local answer = '${Refusal.Late}'
  if now <= not_after - tonumber(ARGV[i + 6]) then answer = judge[ARGV[i]](i) end
  answers[#answers + 1] = answer
end

local answer = remember(table.concat(answers, ','))
counter_store(c, ARGV[5])
return answer
`,
});
