import { defineScript } from '../redis/script.js';
import { luaRecord } from './lua-record.js';

/**
 * Stores a run's result for replay. A record that vanished and that nobody took is stored all the same; one that another owner took is
 * left alone.
 */
export const completeScript = defineScript({
  name: 'idempotency.complete',
  keys: ['record'],
  args: ['notAfterMs', 'token', 'fingerprint', 'ttlMs', 'kind', 'result'],
  lua: `
-- KEYS[1] record
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] token        owner of the run
-- ARGV[3] fingerprint  of the payload
-- ARGV[4] ttlMs        how long the result is kept, in ms
-- ARGV[5] kind         how to read the result
-- ARGV[6] result       bytes
-- returns STORED | STALE | TOO_LATE
${luaRecord}
local record = read_record(KEYS[1])
if record then
  if record == 'FOREIGN' or record.token ~= ARGV[2] then return 'STALE' end
  if record.state == 'done' then return 'STORED' end
  -- What was committed with the effects stands, unless there is a real answer to put in its place.
  if record.state == 'committed' and ARGV[5] == 'tombstone' then
    redis.call('HDEL', KEYS[1], 'u')
    signal_end(KEYS[1])
    return 'STORED'
  end
end
if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
redis.call('HSET', KEYS[1], 'v', '1', 's', 'done', 't', ARGV[2], 'f', ARGV[3], 'k', ARGV[5], 'r', ARGV[6])
redis.call('HDEL', KEYS[1], 'u')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
signal_end(KEYS[1])
return 'STORED'
`,
  reply: (raw): boolean => raw === 'STORED',
});
