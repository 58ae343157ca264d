import { defineScript } from '../scripting/script.js';
import { luaRecord, luaRecordsAtOnce } from './lua-record.js';

/**
 * The end of a run that gave its key back: `completed` or `held` if a transaction had committed it,
 * so that its key is not free.
 */
export type Release = 'released' | 'completed' | 'held' | 'lease-lost';

/**
 * The two scripts differ in what they know of the run.
 *
 * @param fingerprint Lua for that of the run
 * @param trace Lua for that of the run
 * @param whenFree Lua for the companions of a record that no later run continues
 */
export const releaseLua = ({
  fingerprint,
  trace,
  whenFree,
}: Record<'fingerprint' | 'trace' | 'whenFree', string>): string => `
local record = parse_record(text_of(KEYS[1]))
if not record and redis.call('EXISTS', KEYS[1]) == 1 then return 'lease-lost' end
if record and (record == 'FOREIGN' or record.token ~= ARGV[1] or record.state == 'done') then return 'lease-lost' end
if record and (record.state == 'failed' or record.state == 'released') then return 'released' end
if record and record.state == 'committed' then
  -- Without memory for it, the run is taken to go on for as long as it was going to be.
  write_alive(KEYS[1], record, '')
  signal_end(KEYS[1])
  return record.kind == 'tombstone' and 'held' or 'completed'
end
local known = ${trace}
if known ~= '' then
  local retention, attempt, abandoned, has_steps, more = string.match(known, '^(%d+);(%d+);(%d);(%d);(.*)$')
  if ARGV[3] == '1' then abandoned = '0' else attempt = string.format('%.0f', attempt - 1) end
  local goes_on = has_steps == '1' or abandoned == '1'
  -- Without steps its work is free for any caller. Only other keys for third parties are remembered.
  if goes_on or not string.find(more, '^[^;]*;;') then
    if not goes_on then attempt = '0' end
    local trace = retention .. ';' .. attempt .. ';' .. abandoned .. ';' .. has_steps .. ';' .. more
    local text = record_text(goes_on and 'failed' or 'released', ARGV[1], ${fingerprint}, '', '', trace, '')
    -- Without memory for it, the run is taken to have died.
    redis.pcall('SET', KEYS[1], text, 'PX', retention)
    if not goes_on then ${whenFree} end
    signal_end(KEYS[1])
    return 'released'
  end
end
-- Without memory for that, free is what it has to be.
if write_state(KEYS[1], 'released', ARGV[1], '', ARGV[2]).err then redis.call('DEL', KEYS[1]) end
${whenFree}
signal_end(KEYS[1])
return 'released'
`;

/**
 * Gives the key back without a result, if the run still has it: the next call with it runs. The
 * next call of the same caller and payload continues a run with steps. The end of this owner's run
 * is recorded for a while, even if its claim has not arrived yet.
 */
export const releaseScript = defineScript({
  name: 'idempotency.release',
  keys: ['record'],
  args: ['token', 'memoryMs', 'hasRun'],
  opening: luaRecordsAtOnce() + luaRecord,
  lua: `
-- KEYS[1] record
-- ARGV[1] token     owner of the run
-- ARGV[2] memoryMs  for which copies of the owner's claim and renewals may yet arrive, in ms
-- ARGV[3] hasRun    1, or 0 if the method was not begun: the run counts as no attempt then
-- returns released | completed | held | lease-lost
${releaseLua({
  fingerprint: 'record.fingerprint',
  trace: "record and record.trace or ''",
  whenFree: '',
})}`,
  reply: (raw) => raw as Release,
});
