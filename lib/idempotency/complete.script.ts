import { defineScript } from '../scripting/script.js';
import { luaRecord } from './lua-record.js';

/**
 * The end of a run: its result is kept; only the fact that it ran is kept; or another run has the
 * record.
 */
export type Completion = 'completed' | 'held' | 'lease-lost';

/** @param cleanUp Lua for the companions of the record, once it has its result */
export const completeLua = (cleanUp = ''): string => `
${luaRecord}
local function outcome(kind)
${cleanUp}
  return kind == 'tombstone' and 'held' or 'completed'
end

local text = redis.pcall('GET', KEYS[1])
-- Nearly always it is as its claim left it.
if text ~= record_text('running', ARGV[2], ARGV[3], '', '', '', '') then
  local record = parse_record(text)
  if record and record ~= 'FOREIGN' and record.token == ARGV[2] then
    if record.state == 'done' then return outcome(record.kind) end
    if record.state == 'released' or record.state == 'failed' then return 'lease-lost' end
    -- What was committed with the effects stands, unless there is a real answer to put in its place.
    if record.state == 'committed' and ARGV[5] == 'tombstone' then
      local written = write_alive(KEYS[1], record, '')
      if written.err then return written end
      signal_end(KEYS[1])
      return outcome(record.kind)
    end
  elseif record and (record == 'FOREIGN' or record.state ~= 'released') then
    return 'lease-lost'
  end
end
if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
redis.call('SET', KEYS[1], record_text('done', ARGV[2], ARGV[3], ARGV[5], '', '', ARGV[6]), 'PX', ARGV[4])
signal_end(KEYS[1])
return outcome(ARGV[5])
`;

/**
 * Stores a run's result for replay. A record that vanished is written again unless another owner
 * took it. Another owner's record is left alone.
 */
export const completeScript = defineScript({
  name: 'idempotency.complete',
  keys: ['record'],
  args: ['notAfterMs', 'token', 'fingerprint', 'ttlMs', 'kind', 'result'],
  lua: `
-- KEYS[1] record
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] token        owner of the run
-- ARGV[3] fingerprint  of caller and payload
-- ARGV[4] ttlMs        how long the result is kept, in ms
-- ARGV[5] kind         how to read the result
-- ARGV[6] result       bytes
-- returns completed | held | lease-lost | TOO_LATE
${completeLua()}`,
  reply: (raw) => raw as Completion,
});
