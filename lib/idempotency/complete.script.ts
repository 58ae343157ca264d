import { defineScript } from '../scripting/script.js';
import { luaOwnerOf, luaRecord, luaRecordsAtOnce } from './lua-record.js';

/**
 * The end of a run: its result is kept; only the fact that it ran is kept; or another run has the
 * record.
 */
export type Completion = 'completed' | 'held' | 'lease-lost';

/**
 * @param isUntouched Lua: the record is the run's own, and no transaction has committed it
 * @param cleanUp Lua for the companions of the record, once it has its result
 */
export const completeLua = (isUntouched: string, cleanUp = ''): string => `
local text = text_of(KEYS[1])
local kind = ARGV[4]
local is_stored = false
-- Nearly always it is as its claim or its steps left it. Then it is the run's own, and stays right also where this is a copy that comes late.
if not (${isUntouched}) then
  ${luaRecord}
  ${luaOwnerOf('ARGV[2]')}
  local record = parse_record(text)
  if not record then
    if redis.call('EXISTS', KEYS[1]) == 1 then return 'lease-lost' end
  elseif record ~= 'FOREIGN' and record.token == token then
    if record.state == 'released' or record.state == 'failed' then return 'lease-lost' end
    -- What was committed with the effects stands, unless there is a real answer to put in its place.
    if record.state == 'committed' and kind == 'tombstone' then
      local written = write_alive(KEYS[1], record, '')
      if written.err then return written end
      signal_end(KEYS[1])
      is_stored = true
    end
    is_stored = is_stored or record.state == 'done'
    if is_stored then kind = record.kind end
  elseif record == 'FOREIGN' or record.state ~= 'released' then
    return 'lease-lost'
  end
  if not is_stored and now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
end
if not is_stored then
  redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[3])
  redis.pcall('SPUBLISH', KEYS[1], '')
end
${cleanUp}
return kind == 'tombstone' and 'held' or 'completed'
`;

/**
 * Stores a run's result for replay. A record that vanished is written again unless another owner
 * took it. Another owner's record is left alone.
 */
export const completeScript = defineScript({
  name: 'idempotency.complete',
  keys: ['record'],
  args: ['notAfterMs', 'running', 'ttlMs', 'kind', 'done'],
  opening: luaRecordsAtOnce(),
  lua: `
-- KEYS[1] record
-- ARGV[1] notAfterMs   server time in ms past which a record that is not the run's own is not written
-- ARGV[2] running      the record of the run as its claim left it
-- ARGV[3] ttlMs        how long the result is kept, in ms
-- ARGV[4] kind         how to read the result
-- ARGV[5] done         the record with the result
-- returns completed | held | lease-lost | TOO_LATE
${completeLua('text == ARGV[2]')}`,
  reply: (raw) => raw as Completion,
});
