import { luaInt64 } from '../scripting/lua-int64.js';
import { luaNow, luaOtherType } from '../scripting/lua.js';
import { defineScript } from '../scripting/script.js';
import { ABSENT, CounterState, SWEEP_LIMIT } from './lua-counter.js';

/**
 * The beginning of an answer that has not counted all expired holds; the cursor to continue from
 * follows.
 */
export const MORE_TO_READ = `${CounterState.More}:`;

/**
 * Reads a counter with the quantities of its expired holds, which are available again though
 * nothing has given them back yet. A script, so that a key of another type is an answer and not an
 * error to be told by its text.
 */
export const readScript = defineScript({
  name: 'counters.read',
  keys: ['counter', 'holds'],
  args: ['cursor'],
  reply: String,
  readOnly: true,
  lua: `
-- KEYS[1]  counter
-- KEYS[2]  holds: of the counter, a sorted set of "<quantity>:<nonce>" by expiry
-- ARGV[1]  cursor: that of the answer before, or ''
-- Returns a string: the value in decimal | absent | NOT_AN_INTEGER | WRONG_TYPE | MORE:<cursor>, where more holds have expired than one call counts
${luaNow}${luaInt64}
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then
  ${luaOtherType('string', 'KEYS[1]', "redis.call('GET', KEYS[1])")}
  return '${CounterState.WrongType}'
end
if not stored then return '${ABSENT}' end
local value = int64_parse(stored)
if not value then return '${CounterState.NotAnInteger}' end

-- <moment in server time, ms>:<holds expired by then>:<holds counted>:<their sum, in two limbs>
local now, count, from, high, low = string.match(ARGV[1], '^(%d+):(%d+):(%d+):(%-?%d+):(%d+)$')
-- Of the holds that have expired by one moment none is added. Where there are fewer by now, they were given back: count anew.
if now and redis.call('ZCOUNT', KEYS[2], '-inf', now) ~= tonumber(count) then now = nil end
if not now then now, from, high, low = string.format('%.0f', now_ms()), 0, 0, 0 end
from = tonumber(from)
local counted = {tonumber(high), tonumber(low)}

local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', from, ${SWEEP_LIMIT + 1})
for i = 1, math.min(#expired, ${SWEEP_LIMIT}) do
  local sum = int64_add(counted, int64_parse(string.match(expired[i], '^%d+')))
  -- A counter that was raised so far meanwhile: the rest stays held until there is room for it.
  if not int64_fits(int64_add(value, sum)) then return int64_format(int64_add(value, counted)) end
  counted = sum
end
if #expired <= ${SWEEP_LIMIT} then return int64_format(int64_add(value, counted)) end
count = redis.call('ZCOUNT', KEYS[2], '-inf', now)
return string.format('${MORE_TO_READ}%s:%.0f:%.0f:%.0f:%.0f', now, count, from + ${SWEEP_LIMIT}, counted[1], counted[2])
`,
});
