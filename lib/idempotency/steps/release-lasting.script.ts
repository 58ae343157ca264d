import { defineScript } from '../../scripting/script.js';
import { luaRecord, luaRecordsAtOnce } from '../lua-record.js';
import { releaseLua, type Release } from '../release.script.js';

/** Gives the key of a run back whose record outlives its lease: as the script of other runs. */
export const releaseLastingScript = defineScript({
  name: 'idempotency.releaseLasting',
  keys: ['record', 'index'],
  args: ['token', 'memoryMs', 'hasRun', 'fingerprint', 'trace'],
  opening: luaRecordsAtOnce(2) + luaRecord,
  lua: `
-- KEYS[1] record
-- KEYS[2] index        of the slot
-- ARGV[1] token        owner of the run
-- ARGV[2] memoryMs     for which copies of the owner's claim and renewals may yet arrive, in ms
-- ARGV[3] hasRun       1, or 0 if the method was not begun: the run counts as no attempt then
-- ARGV[4] fingerprint  of caller and payload
-- ARGV[5] trace        of a run that surely has steps, also where Redis has lost them; else ''
-- returns released | completed | held | lease-lost
${releaseLua({
  fingerprint: 'ARGV[4]',
  trace: "ARGV[5] ~= '' and ARGV[5] or record and record.trace or ''",
  whenFree: "redis.call('ZREM', KEYS[2], KEYS[1])",
})}`,
  reply: (raw) => raw as Release,
});
