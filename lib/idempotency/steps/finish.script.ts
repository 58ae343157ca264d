import { defineScript } from '../../scripting/script.js';
import { completeLua, type Completion } from '../complete.script.js';

/** Completes a run that may have steps: as the script of other runs, and the steps are deleted. */
export const finishScript = defineScript({
  name: 'idempotency.finish',
  keys: ['record', 'steps', 'index'],
  args: ['notAfterMs', 'token', 'fingerprint', 'ttlMs', 'kind', 'result'],
  lua: `
-- KEYS[1] record
-- KEYS[2] steps        of the record's runs
-- KEYS[3] index        of the slot
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] token        owner of the run
-- ARGV[3] fingerprint  of caller and payload
-- ARGV[4] ttlMs        how long the result is kept, in ms
-- ARGV[5] kind         how to read the result
-- ARGV[6] result       bytes
-- returns completed | held | lease-lost | TOO_LATE
${completeLua(`  redis.call('UNLINK', KEYS[2])
  redis.call('ZREM', KEYS[3], KEYS[1])`)}`,
  reply: (raw) => raw as Completion,
});
