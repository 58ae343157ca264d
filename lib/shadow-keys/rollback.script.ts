import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';
import { VERSION_TTL_MS } from './swap.script.js';

/** Puts back what the last swap replaced, of all targets or of none. */
export const rollbackScript = defineScript({
  name: 'shadow-keys.rollback',
  keys: ['marker', '...targets'],
  args: ['notAfterMs', 'keepMarker'],
  reply: (raw) => String(raw) === 'DONE',
  lua: `
-- KEYS[1]  marker: of this operation; holds its answer
-- KEYS[2…] per target: +0 the live key, +1 what was live before, +2 the version of the live key
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1' or ''
-- Returns a string: DONE | NONE where one of them has nothing to go back to | TOO_LATE
${luaOperation}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

for i = 2, #KEYS, 3 do
  if redis.call('EXISTS', KEYS[i + 1]) == 0 then return remember('NONE') end
end

remember('DONE')
for i = 2, #KEYS, 3 do
  redis.call('UNLINK', KEYS[i])
  redis.call('RENAME', KEYS[i + 1], KEYS[i])
  -- The version stays: what was rolled back is not older than itself, but what is older than it stays out.
  local ttl = redis.call('PTTL', KEYS[i])
  redis.call('PEXPIRE', KEYS[i + 2], ttl > 0 and string.format('%.0f', ttl) or '${VERSION_TTL_MS}')
end
return 'DONE'
`,
});
