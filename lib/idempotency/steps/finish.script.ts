import { defineScript } from '../../scripting/script.js';
import { completeLua, type Completion } from '../complete.script.js';
import { luaRecordsAtOnce } from '../lua-record.js';

/** Completes a run that may have steps: as the script of other runs, and the steps are deleted. */
export const finishScript = defineScript({
  name: 'idempotency.finish',
  keys: ['record', 'steps', 'index'],
  args: ['notAfterMs', 'head', 'ttlMs', 'kind', 'done'],
  opening: luaRecordsAtOnce(3),
  lua: `
-- KEYS[1] record
-- KEYS[2] steps        of the record's runs
-- KEYS[3] index        of the slot
-- ARGV[1] notAfterMs   server time in ms past which a record that is not the run's own is not written
-- ARGV[2] head         of the run's record while it has steps, up to its time
-- ARGV[3] ttlMs        how long the result is kept, in ms
-- ARGV[4] kind         how to read the result
-- ARGV[5] done         the record with the result
-- returns completed | held | lease-lost | TOO_LATE
${completeLua(
  'text and string.sub(text, 1, #ARGV[2]) == ARGV[2]',
  `  redis.call('UNLINK', KEYS[2])
  redis.call('ZREM', KEYS[3], KEYS[1])`,
)}`,
  reply: (raw) => raw as Completion,
});
