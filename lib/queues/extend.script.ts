import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';
import { luaHistory } from './lua-queue.js';

/**
 * Prolongs the lease of a delivery that still holds its job. It never moves the end of a lease back: a handler and the renewal prolong the same lease, and
 * whichever comes last must not undo the other.
 */
export const extendScript = defineScript({
  name: 'queues.extend',
  keys: ['marker', 'history', 'leases'],
  args: ['notAfterMs', 'keepMarker', 'id', 'fence', 'leaseMs'],
  lua: `
-- KEYS[1] marker      kept answer, by which a copy is known
-- KEYS[2] history     hash of job id to what became of its deliveries
-- KEYS[3] leases      sorted set of job id by the end of its lease, server time in ms, and .5 where it has neighbours
-- ARGV[1] notAfterMs  server time in ms past which nothing is done
-- ARGV[2] keepMarker  '1' or ''
-- ARGV[3] id          of the job
-- ARGV[4] fence       of the delivery
-- ARGV[5] leaseMs     from now, at the least
-- returns EXTENDED | LOST | TOO_LATE
${luaOperation}${luaHistory}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end
local score = redis.call('ZSCORE', KEYS[3], ARGV[3])
if not score or (history_of(KEYS[2], ARGV[3])) ~= tonumber(ARGV[4]) then return remember('LOST') end
local lease_end = math.max(math.floor(tonumber(score)), now_ms() + tonumber(ARGV[5]))
local neighbours = string.sub(score, -2) == '.5' and '.5' or ''
-- Taken out first, which needs no memory: a lease is prolonged also when memory is full.
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('ZADD', KEYS[3], digits(lease_end) .. neighbours, ARGV[3])
return remember('EXTENDED')
`,
  reply: (raw) => raw === 'EXTENDED',
});
