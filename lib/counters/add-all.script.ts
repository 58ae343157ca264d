import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';
import { luaCounter, Refusal, SWEEP_LIMIT } from './lua-counter.js';

/** How many arguments describe one counter's add. */
export const FIELDS_PER_ADD = 5;

/** Adds to several counters, to all of them or, when one is at a bound, to none. Everything is judged before the first write. */
export const addAllScript = defineScript({
  name: 'counters.addAll',
  keys: ['marker', '...counters'],
  args: ['notAfterMs', 'keepMarker', 'lifeId', 'lifeTtlMs', '...adds'],
  reply: String,
  lua: `
-- KEYS[1]  marker: of the operation
-- KEYS[2…] counters, for each: the counter, its life and its holds, as in counters.apply
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: 1, or '' for none
-- ARGV[3]  lifeId: of lives that begin here, never used before
-- ARGV[4]  lifeTtlMs: how long an add can be undone
-- ARGV[5…] adds, for each counter:
--   +0 amount  to add
--   +1 min     lower bound or ''
--   +2 max     upper bound or ''
--   +3 ttlMs   time to live of a counter this creates, or ''
--   +4 detail  letters of c (clamp), s (sliding TTL), n (the result must be exact as a double), u (undoable)
-- Returns a string: TOO_LATE | MORE | <refusal>,<index from 0> for NOT_AN_INTEGER, WRONG_TYPE, overflow and inexact; or
--   applied, or when nothing was done limited, and for each counter ,<value>:<applied>:<1 if limited, else 0>:<life if undoable and applied>
${luaOperation}${luaCounter}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

local now, room = now_ms(), ${SWEEP_LIMIT}
local counters, targets, at_bound = {}, {}, {}
local all_fit, more = true, false
for n = 1, math.floor((#KEYS - 1) / 3) do
  local k = 3 * n - 1
  local c = counter_open(KEYS[k], KEYS[k + 1], KEYS[k + 2], now, room)
  if c.problem then return remember(c.problem .. ',' .. string.format('%.0f', n - 1)) end
  counters[n], room, more = c, room - c.swept, more or c.more
end
if more then
  remember('MORE')
  for _, c in ipairs(counters) do counter_store(c) end
  return 'MORE'
end

for n, c in ipairs(counters) do
  local i = 5 + (n - 1) * ${FIELDS_PER_ADD}
  local target, limited = counter_judge(c, int64_parse(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 4])
  if not target then return remember(limited .. ',' .. string.format('%.0f', n - 1)) end
  targets[n], at_bound[n] = target, limited
  if limited and not string.find(ARGV[i + 4], 'c', 1, true) then all_fit = false end
end

local answers = {all_fit and 'applied' or 'limited'}
for n, c in ipairs(counters) do
  local i = 5 + (n - 1) * ${FIELDS_PER_ADD}
  if all_fit then
    local applied, life = counter_move(c, targets[n], ARGV[i + 3], ARGV[i + 4], ARGV[3])
    answers[n + 1] = counter_answer(targets[n], applied, at_bound[n], life)
  else
    local value = c.value or INT64_ZERO
    if string.find(ARGV[i + 4], 'n', 1, true) and not int64_is_safe(value) then
      return remember('${Refusal.Inexact},' .. string.format('%.0f', n - 1))
    end
    answers[n + 1] = counter_answer(value, INT64_ZERO, at_bound[n], '')
  end
end
local answer = table.concat(answers, ',')
local refused = ARGV[2] ~= '' and create(KEYS[1], answer, 'PXAT', marker_end())
for _, c in ipairs(counters) do refused = refused or counter_create(c) end
if refused then return refused end
for _, c in ipairs(counters) do counter_store(c, ARGV[4]) end
return answer
`,
});
