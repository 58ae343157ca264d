import { luaNow } from '../../redis/lua.js';
import { defineScript } from '../../redis/script.js';

/** Lets the target forget its decision after a while. Only for a transfer that is closed. */
export const expireDecisionScript = defineScript({
  name: 'transfers.expire-decision',
  keys: ['decision'],
  args: ['notAfterMs', 'ttlMs'],
  reply: String,
  lua: `
-- KEYS[1]  decision: of the transfer
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  ttlMs: how long from now it is kept
-- Returns a string: TOO_LATE | done
${luaNow}
if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'done'
`,
});
