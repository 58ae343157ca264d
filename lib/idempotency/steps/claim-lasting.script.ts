import { defineScript } from '../../scripting/script.js';
import { claimLua, readClaim } from '../claim.script.js';
import { luaIndex } from '../lua-record.js';

const INDEX = 'index_record(KEYS[2], KEYS[1], tonumber(ARGV[6]), now)';

/**
 * Takes the key for a run whose record is to outlive its lease, so that its death is seen; else as
 * the claim of other runs.
 */
export const claimLastingScript = defineScript({
  name: 'idempotency.claimLasting',
  keys: ['record', 'index'],
  args: ['notAfterMs', 'token', 'fingerprint', 'leaseMs', 'trace', 'keepMs'],
  binary: true,
  lua: `
-- KEYS[1] record
-- KEYS[2] index        of the slot
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] token        owner of the run
-- ARGV[3] fingerprint  of caller and payload: <evidence>:<payload>
-- ARGV[4] leaseMs      length of the lease in ms
-- ARGV[5] trace        of a first run
-- ARGV[6] keepMs       time for which the index has the record, in ms
-- returns CLAIMED|<trace> | RUNNING|<ms left of the lease> | DONE|<kind>|<ms it is kept>|<result> | CALLER | MISMATCH | FOREIGN | TOO_LATE
${luaIndex}${claimLua(
    `
local written = write_lasting(KEYS[1], ARGV[2], ARGV[3], ARGV[5], now, tonumber(ARGV[4]))
if written.err then return written end
${INDEX}
return 'CLAIMED|' .. ARGV[5]
`,
    INDEX,
  )}`,
  reply: readClaim,
});
