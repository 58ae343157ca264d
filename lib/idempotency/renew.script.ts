import { defineScript } from '../redis/script.js';
import { luaRecord } from './lua-record.js';

/** Prolongs a run's lease, and takes its key again when the record vanished and nobody else has it. */
export const renewScript = defineScript({
  name: 'idempotency.renew',
  keys: ['record'],
  args: ['notAfterMs', 'token', 'fingerprint', 'leaseMs'],
  lua: `
-- KEYS[1] record
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] token        owner of the run
-- ARGV[3] fingerprint  of the payload
-- ARGV[4] leaseMs      time to live of the claim in ms, from now
-- returns RENEWED | LOST | TOO_LATE
${luaRecord}
local record = read_record(KEYS[1])
if record and (record == 'FOREIGN' or record.token ~= ARGV[2]) then return 'LOST' end
if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
if not record then
  write_running(KEYS[1], ARGV[2], ARGV[3], ARGV[4])
elseif record.state == 'running' then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 'RENEWED'
`,
  reply: (raw): boolean => raw === 'RENEWED',
});
