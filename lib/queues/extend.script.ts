import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';
import { luaDeliveries } from './lua-queue.js';

/** Prolongs the lease of a delivery that still holds its job. */
export const extendScript = defineScript({
  name: 'queues.extend',
  keys: ['marker', 'deliveries', 'leases'],
  args: ['notAfterMs', 'keepMarker', 'id', 'fence', 'leaseMs'],
  lua: `
-- KEYS[1] marker      kept answer, by which a copy is known
-- KEYS[2] deliveries  hash of job id to <fence>:<deliveries that count no longer>
-- KEYS[3] leases      sorted set of job id by the end of its lease, server time in ms
-- ARGV[1] notAfterMs  server time in ms past which nothing is done
-- ARGV[2] keepMarker  '1' or ''
-- ARGV[3] id          of the job
-- ARGV[4] fence       of the delivery
-- ARGV[5] leaseMs     from now
-- returns EXTENDED | LOST | TOO_LATE
${luaOperation}${luaDeliveries}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end
if not is_held(KEYS[2], KEYS[3], ARGV[3], ARGV[4]) then return remember('LOST') end
-- Taken out first, which needs no memory: a lease is prolonged also when memory is full.
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('ZADD', KEYS[3], digits(now_ms() + tonumber(ARGV[5])), ARGV[3])
return remember('EXTENDED')
`,
  reply: (raw) => raw === 'EXTENDED',
});
