import { defineScript } from '../../scripting/script.js';
import { claimLua, readClaim } from '../claim.script.js';
import { luaIndex, luaOwnerOf, luaRecord, luaRecordsAtOnce } from '../lua-record.js';

const INDEX = 'index_record(KEYS[2], KEYS[1], tonumber(ARGV[6]), now_ms())';

/**
 * Takes the key for a run whose record is to outlive its lease, so that its death is seen; else as
 * the claim of other runs.
 */
export const claimLastingScript = defineScript({
  name: 'idempotency.claimLasting',
  keys: ['record', 'index'],
  args: ['notAfterMs', 'running', 'leaseMs', 'wantsTtl', 'trace', 'keepMs'],
  binary: true,
  opening: luaRecordsAtOnce(2) + luaRecord + luaIndex,
  lua: `
-- KEYS[1] record
-- KEYS[2] index        of the slot
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] running      the record of the run, with its token and fingerprint
-- ARGV[3] leaseMs      length of the lease in ms
-- ARGV[4] wantsTtl     '1' for the time that a result is still kept, or ''
-- ARGV[5] trace        of a first run
-- ARGV[6] keepMs       time for which the index has the record, in ms
-- returns CLAIMED|<trace> | RUNNING|<ms left of the lease> | <record with a result> | {<record with a result>, <ms it is kept>} | CALLER | MISMATCH | FOREIGN | TOO_LATE
${claimLua(
  `
if not text and redis.call('EXISTS', KEYS[1]) == 1 then return 'FOREIGN' end
${luaOwnerOf('ARGV[2]')}
local written = write_lasting(KEYS[1], token, fingerprint, ARGV[5], now_ms(), tonumber(ARGV[3]))
if written.err then return written end
${INDEX}
return 'CLAIMED|' .. ARGV[5]
`,
  INDEX,
)}`,
  reply: readClaim,
});
