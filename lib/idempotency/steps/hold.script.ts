import { defineScript } from '../../scripting/script.js';
import type { Completion } from '../complete.script.js';
import { luaIndex, luaRecord } from '../lua-record.js';

/**
 * Ends a run with an unknown outcome: no call with its key runs, its steps stay, and the index of
 * the slot lists it. What a transaction has committed stands.
 */
export const holdScript = defineScript({
  name: 'idempotency.hold',
  keys: ['record', 'steps', 'index'],
  args: ['notAfterMs', 'token', 'fingerprint', 'heldMs', 'reason', 'trace', 'keepMs'],
  lua: `
-- KEYS[1] record
-- KEYS[2] steps        of the record's runs
-- KEYS[3] index        of the slot
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] token        owner of the run
-- ARGV[3] fingerprint  of caller and payload
-- ARGV[4] heldMs       how long the key is held, in ms
-- ARGV[5] reason       why there is no result
-- ARGV[6] trace        of the run
-- ARGV[7] keepMs       time for which the index has a record, in ms
-- returns completed | held | lease-lost | TOO_LATE
${luaRecord}${luaIndex}
local record = read_record(KEYS[1])
if record and (record == 'FOREIGN' or record.token ~= ARGV[2] and record.state ~= 'released') then return 'lease-lost' end
local is_own = record and record.token == ARGV[2]
if is_own and record.state == 'done' then return record.kind == 'tombstone' and 'held' or 'completed' end
if is_own and (record.state == 'released' or record.state == 'failed') then return 'lease-lost' end
if is_own and record.state == 'committed' then
  local written = write_alive(KEYS[1], record, '')
  if written.err then return written end
  signal_end(KEYS[1])
  return record.kind == 'tombstone' and 'held' or 'completed'
end
local now = now_ms()
if now > tonumber(ARGV[1]) then return 'TOO_LATE' end
redis.call('SET', KEYS[1], record_text('done', ARGV[2], ARGV[3], 'tombstone', '', ARGV[6], ARGV[5]), 'PX', ARGV[4])
index_record(KEYS[3], KEYS[1], tonumber(ARGV[7]), now)
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
signal_end(KEYS[1])
return 'held'
`,
  reply: (raw) => raw as Completion,
});
