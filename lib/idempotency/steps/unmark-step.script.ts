import { luaNow } from '../../scripting/lua.js';
import { defineScript } from '../../scripting/script.js';

/**
 * Takes back that a step began, if this very begin is what is kept of it: its work is known to have
 * done nothing. That it was taken back stays, so that a late copy of the begin changes nothing.
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
if not known or known == 'undone|' .. ARGV[3] then return 'UNMARKED' end
if known ~= 'begun|' .. ARGV[3] then return 'OTHER' end
if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
-- Without memory for it, a late copy may yet bring the begin back.
local kept = redis.pcall('HSET', KEYS[1], ARGV[2], 'undone|' .. ARGV[3])
if type(kept) == 'table' and kept.err then redis.call('HDEL', KEYS[1], ARGV[2]) end
return 'UNMARKED'
`,
  reply: (raw) => raw === 'UNMARKED',
});
