import { luaNow } from '../redis/lua.js';
import { defineScript } from '../redis/script.js';

/** Ids that one call moves back from one processing list. */
const MAX_IDS = 1_000;

/**
 * Gives what consumers were given by BLMOVE and did not lease back to the head of the queue: they have not shown for a while, or have closed. A consumer that
 * was merely slow loses nothing by it, since only a lease makes a job its own. A copy of the script finds nothing left to do.
 */
export const reclaimScript = defineScript({
  name: 'queues.reclaim',
  keys: ['pending', 'registry', '...processing'],
  args: ['notAfterMs', 'graceMs', 'forgetMs', '...consumers'],
  lua: `
-- KEYS[1] pending     list of the ids of jobs to be taken
-- KEYS[2] registry    sorted set of consumer by when it last showed, server time in ms
-- KEYS[3…] processing lists, one for each consumer
-- ARGV[1] notAfterMs  server time in ms past which nothing is done
-- ARGV[2] graceMs     consumers that have shown within this time, in ms, are left alone; -1 for none
-- ARGV[3] forgetMs    those that have not shown for this long, in ms, are forgotten; -1 for all
-- ARGV[4…] consumers  in the order of their lists
-- returns how many jobs were given back, or TOO_LATE
${luaNow}
local now = now_ms()
if now > tonumber(ARGV[1]) then return 'TOO_LATE' end
redis.call('LLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])

local moved = 0
for i = 3, #KEYS do
  local consumer = ARGV[i + 1]
  local seen = redis.call('ZSCORE', KEYS[2], consumer)
  local away = seen and now - tonumber(seen)
  if away and away > tonumber(ARGV[2]) then
    for _ = 1, ${MAX_IDS} do
      -- Popped first, which frees memory: it works also when there is none left.
      local id = redis.call('RPOP', KEYS[i])
      if not id then break end
      redis.call('LPUSH', KEYS[1], id)
      moved = moved + 1
    end
    if away > tonumber(ARGV[3]) and redis.call('LLEN', KEYS[i]) == 0 then redis.call('ZREM', KEYS[2], consumer) end
  end
end
return string.format('%.0f', moved)
`,
  reply: Number,
});
