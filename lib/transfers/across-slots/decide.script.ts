import { luaInt64 } from '../../redis/lua-int64.js';
import { luaNow } from '../../redis/lua.js';
import { defineScript } from '../../redis/script.js';
import { Answer } from '../transfer.script.js';

/** What the target answers: paid in, or refused for one of the reasons, once and for all; or too late to decide. */
export const Decision = { Credited: 'credited', Refused: 'refused', Late: 'late' } as const;

/** Pays the amount into the target, or refuses to. What it decided first is its answer from then on. */
export const decideScript = defineScript({
  name: 'transfers.decide',
  keys: ['decision', 'to'],
  args: ['validUntilMs', 'amount', 'exact'],
  reply: String,
  lua: `
-- KEYS[1]  decision: of this transfer
-- KEYS[2]  to: the balance to add to, a signed 64-bit integer in decimal
-- ARGV[1]  validUntilMs: milliseconds of Redis's clock, told before the transfer was seen open and never put off. Past it the transfer may have been
--          closed long enough for its decision to be forgotten, so nothing is decided
-- ARGV[2]  amount: above 0
-- ARGV[3]  exact: 'n' if the balance must be exact as a double, else ''
-- Returns a string: late | credited,<balance> | refused,wrong-type | refused,not-an-integer | refused,overflow | refused,inexact
${luaNow}${luaInt64}
local stored = redis.call('GET', KEYS[1])
if stored then return stored end
if now_ms() > tonumber(ARGV[1]) then return '${Decision.Late}' end

-- Without a time to live: it is needed for as long as the transfer is open, however long that is.
local function decide(answer)
  redis.call('SET', KEYS[1], answer)
  return answer
end

local text = redis.pcall('GET', KEYS[2])
if type(text) == 'table' then return decide('${Decision.Refused},${Answer.WrongType}') end
local balance = INT64_ZERO
if text then balance = int64_parse(text) end
if not balance then return decide('${Decision.Refused},${Answer.NotAnInteger}') end
local reached = int64_add(balance, int64_parse(ARGV[2]))
if not int64_fits(reached) then return decide('${Decision.Refused},${Answer.Overflow}') end
if ARGV[3] == 'n' and not int64_is_safe(reached) then return decide('${Decision.Refused},${Answer.Inexact}') end
local answer = decide('${Decision.Credited},' .. int64_format(reached))
redis.call('SET', KEYS[2], int64_format(reached), 'KEEPTTL')
return answer
`,
});
