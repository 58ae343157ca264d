import { luaNow } from '../../scripting/lua.js';
import { defineScript } from '../../scripting/script.js';

/**
 * Takes back that a step began, if this very begin is what is kept of it: its work is known to have
 * done nothing.
 */
export const unmarkStepScript = defineScript({
  name: 'idempotency.unmarkStep',
  keys: ['steps'],
  args: ['notAfterMs', 'step', 'mark'],
  lua: `
-- KEYS[1] steps       of the record's runs
-- ARGV[1] notAfterMs  server time in ms past which nothing is written
-- ARGV[2] step        its name
-- ARGV[3] mark        names the begin
-- returns UNMARKED | OTHER | TOO_LATE
${luaNow}
local known = redis.call('HGET', KEYS[1], ARGV[2])
-- As after this script itself, whose reply may have been lost.
if not known then return 'UNMARKED' end
if known ~= 'begun|' .. ARGV[3] then return 'OTHER' end
if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
redis.call('HDEL', KEYS[1], ARGV[2])
return 'UNMARKED'
`,
  reply: (raw) => raw === 'UNMARKED',
});
