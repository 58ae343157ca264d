import { luaOperation } from '../../redis/lua-operation.js';
import { defineScript } from '../../redis/script.js';
import { luaCounter, Refusal, SWEEP_LIMIT } from '../lua-counter.js';

/** Confirms, releases or extends a hold that has not expired. */
export const settleScript = defineScript({
  name: 'reservations.settle',
  keys: ['marker', 'counter', 'holds'],
  args: ['notAfterMs', 'keepMarker', 'action', 'hold', 'ttlMs'],
  reply: String,
  lua: `
-- KEYS[1]  marker: of the operation
-- KEYS[2]  counter: what is available, a signed 64-bit integer in decimal
-- KEYS[3]  holds: of the counter, a sorted set of "<quantity>:<nonce>" by expiry
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: 1, or '' for none
-- ARGV[3]  action: confirm | release | extend
-- ARGV[4]  hold: "<quantity>:<nonce>"
-- ARGV[5]  ttlMs: extend: how long from now it is held; else ''
-- Returns a string: TOO_LATE | MORE | NOT_AN_INTEGER | WRONG_TYPE | gone | overflow | done
${luaOperation}${luaCounter}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

local now = now_ms()
local c = counter_open(KEYS[2], nil, KEYS[3], now, ${SWEEP_LIMIT})
local expires = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[4]) or nil)
-- An id that was never given may name any key: there, too, is no such hold.
if c.problem then return remember(expires and c.problem or '${Refusal.Gone}') end

local function settle()
  if not c.value or not expires or expires <= now then return '${Refusal.Gone}' end
  if ARGV[3] == 'extend' then
    c.hold, c.hold_until = ARGV[4], math.max(expires, now + tonumber(ARGV[5]))
    return 'done'
  end
  if ARGV[3] == 'release' then
    local value = int64_add(c.value, quantity_of(ARGV[4]))
    if not int64_fits(value) then return '${Refusal.Overflow}' end
    c.value, c.changed = value, true
  end
  c.hold = ARGV[4]
  return 'done'
end

local answer = c.more and 'MORE' or settle()
remember(answer)
counter_store(c)
return answer
`,
});
