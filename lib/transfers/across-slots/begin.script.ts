import { luaInt64 } from '../../redis/lua-int64.js';
import { luaOperation } from '../../redis/lua-operation.js';
import { defineScript } from '../../redis/script.js';
import { Answer } from '../transfer.script.js';

/** The answer when the amount was taken and what is to become of it was noted. */
export const BEGUN = 'begun';

/** Takes the amount from its balance and notes where it is to go, in one step. */
export const beginScript = defineScript({
  name: 'transfers.begin',
  keys: ['marker', 'from', 'intents', 'order'],
  args: ['notAfterMs', 'keepMarker', 'nonce', 'amount', 'min', 'exact', 'details'],
  reply: String,
  lua: `
-- KEYS[1]  marker: of this operation
-- KEYS[2]  from: the balance to take from, a signed 64-bit integer in decimal
-- KEYS[3]  intents: of the slot, a hash of "<state>,<amount>,<details>" by id
-- KEYS[4]  order: of the slot, a sorted set of the same ids with equal scores, so that they are in the order of their times
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1', or '' for no marker
-- ARGV[3]  nonce: makes the id unique
-- ARGV[4]  amount: above 0
-- ARGV[5]  min: what must be left
-- ARGV[6]  exact: 'n' if the balance must be exact as a double, else ''
-- ARGV[7]  details: for whoever finishes it, not read here
-- Returns a string: TOO_LATE | begun,<id>,<balance> with an id of "<milliseconds>-<nonce>"
--   | insufficient,<balance> | inexact | not-an-integer | wrong-type
${luaOperation}${luaInt64}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

local text = redis.pcall('GET', KEYS[2])
if type(text) == 'table' then return remember('${Answer.WrongType}') end
local balance = INT64_ZERO
if text then balance = int64_parse(text) end
if not balance then return remember('${Answer.NotAnInteger}') end
local left = int64_subtract(balance, int64_parse(ARGV[4]))
if int64_compare(left, int64_parse(ARGV[5])) < 0 then
  return remember('${Answer.InsufficientFunds},' .. int64_format(balance))
end
if ARGV[6] == 'n' and not int64_is_safe(left) then return remember('${Answer.Inexact}') end
-- Something else under these keys fails the script here, before it wrote anything.
redis.call('HLEN', KEYS[3])
redis.call('ZCARD', KEYS[4])

local id = string.format('%.0f', now_ms()) .. '-' .. ARGV[3]
local answer = '${BEGUN},' .. id .. ',' .. int64_format(left)
remember(answer)
redis.call('HSET', KEYS[3], id, 'open,' .. ARGV[4] .. ',' .. ARGV[7])
redis.call('ZADD', KEYS[4], '0', id)
redis.call('SET', KEYS[2], int64_format(left), 'KEEPTTL')
return answer
`,
});
