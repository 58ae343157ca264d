import { defineScript } from '../../scripting/script.js';
import { luaNow } from '../../scripting/lua.js';

/**
 * Reads the steps of a run's predecessors: names and entries in turn. Undefined where some are
 * gone, or another lineage's.
 */
export const readStepsScript = defineScript({
  name: 'idempotency.readSteps',
  keys: ['steps'],
  args: ['lineage'],
  binary: true,
  readOnly: true,
  lua: `
-- KEYS[1] steps    of the record's runs
-- ARGV[1] lineage  of these runs
-- returns {name, entry, …} without results that count no more and begins that were taken back | GONE
${luaNow}
if redis.call('HGET', KEYS[1], '') ~= ARGV[1] then return 'GONE' end
local now = now_ms()
local found = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local counts_until = string.match(all[i + 1], '^done|[^|]*|(%d+)|')
  local is_over = counts_until and counts_until ~= '0' and tonumber(counts_until) <= now
  local was_taken_back = string.sub(all[i + 1], 1, 7) == 'undone|'
  if all[i] ~= '' and not is_over and not was_taken_back then
    found[#found + 1] = all[i]
    found[#found + 1] = all[i + 1]
  end
end
return found
`,
  reply: (raw) => (Array.isArray(raw) ? (raw as Buffer[]) : undefined),
});
