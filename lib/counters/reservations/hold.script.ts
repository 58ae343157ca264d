import { luaOperation } from '../../redis/lua-operation.js';
import { defineScript } from '../../redis/script.js';
import { LIMITED, luaCounter, SWEEP_LIMIT } from '../lua-counter.js';

/** Takes a quantity off a counter and notes that it is held. */
export const holdScript = defineScript({
  name: 'reservations.hold',
  keys: ['marker', 'counter', 'life', 'holds'],
  args: ['notAfterMs', 'keepMarker', 'hold', 'amount', 'min', 'ttlMs'],
  reply: String,
  lua: `
-- KEYS[1]  marker: of the operation
-- KEYS[2]  counter: what is available, a signed 64-bit integer in decimal
-- KEYS[3]  life: the id of the counter's present incarnation
-- KEYS[4]  holds: of the counter, a sorted set of "<quantity>:<nonce>" by expiry
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: 1, or '' for none
-- ARGV[3]  hold: "<quantity>:<nonce>", never used before
-- ARGV[4]  amount: to add to the counter, the negative of the quantity
-- ARGV[5]  min: what must be left
-- ARGV[6]  ttlMs: how long it is held
-- Returns a string: TOO_LATE | MORE | NOT_AN_INTEGER | WRONG_TYPE | overflow | inexact | limited:<value> | held:<value>:<expiresAtMs>
${luaOperation}${luaCounter}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

local now = now_ms()
local c = counter_open(KEYS[2], KEYS[3], KEYS[4], now, ${SWEEP_LIMIT})
if c.problem then return remember(c.problem) end

local answer
if c.more then
  answer = 'MORE'
else
  local target, limited = counter_judge(c, int64_parse(ARGV[4]), ARGV[5], '', 'n')
  if not target then
    answer = limited
  elseif limited then
    answer = '${LIMITED}:' .. int64_format(target)
  else
    counter_move(c, target, '', '', '')
    c.hold, c.hold_until = ARGV[3], now + tonumber(ARGV[6])
    answer = 'held:' .. int64_format(target) .. ':' .. string.format('%.0f', c.hold_until)
  end
end
remember(answer)
counter_store(c)
return answer
`,
});
