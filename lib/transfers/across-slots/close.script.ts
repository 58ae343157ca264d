import { luaInt64 } from '../../redis/lua-int64.js';
import { luaNow } from '../../redis/lua.js';
import { defineScript } from '../../redis/script.js';
import { Answer } from '../transfer.script.js';

/** The answer when there is no such transfer any more: somebody else closed it and tidied up. */
export const GONE = 'gone';

/** Notes what became of a transfer, and gives the amount back when it was refused, in one step. One that is not open is left as it is. */
export const closeScript = defineScript({
  name: 'transfers.close',
  keys: ['from', 'intents'],
  args: ['notAfterMs', 'id', 'became'],
  reply: String,
  lua: `
-- KEYS[1]  from: the balance that the amount was taken from, a signed 64-bit integer in decimal
-- KEYS[2]  intents: of the slot, a hash of "<state>,<amount>,<details>" by id
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  id: of the transfer
-- ARGV[3]  became: credited, or refunded to give the amount back
-- Returns a string: TOO_LATE | gone | credited | refunded (what it became, now or before) | wrong-type | not-an-integer | overflow
${luaNow}${luaInt64}
if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
local intent = redis.call('HGET', KEYS[2], ARGV[2])
if not intent then return '${GONE}' end
local state, amount, details = string.match(intent, '^(%a+),(%d+),(.*)$')
if state ~= 'open' then return state end

local balance
if ARGV[3] == 'refunded' then
  local text = redis.pcall('GET', KEYS[1])
  if type(text) == 'table' then return '${Answer.WrongType}' end
  balance = INT64_ZERO
  if text then balance = int64_parse(text) end
  if not balance then return '${Answer.NotAnInteger}' end
  balance = int64_add(balance, int64_parse(amount))
  if not int64_fits(balance) then return '${Answer.Overflow}' end
end
-- Needs memory, so that a full Redis refuses the script here.
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ',' .. amount .. ',' .. details)
if balance then redis.call('SET', KEYS[1], int64_format(balance), 'KEEPTTL') end
return ARGV[3]
`,
});
