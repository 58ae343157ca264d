import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';
import { luaHistoryKept, luaWake } from './lua-queue.js';

/** Takes jobs out of the dead letters: back to the queue with their deliveries forgiven, or out of Redis. */
export const takeDeadScript = defineScript({
  name: 'queues.takeDead',
  keys: ['marker', 'dead', 'pending', 'jobs', 'history', 'wake'],
  args: ['notAfterMs', 'keepMarker', 'action', 'limit', '...ids'],
  lua: `
-- KEYS[1] marker      kept answer, by which a copy is known
-- KEYS[2] dead        sorted set of job id by its death, server time in ms
-- KEYS[3] pending     list of the ids of jobs to be taken
-- KEYS[4] jobs        hash of job id to payload
-- KEYS[5] history     hash of job id to what became of its deliveries
-- KEYS[6] wake        sorted set that waiting processes block on
-- ARGV[1] notAfterMs  server time in ms past which nothing is done
-- ARGV[2] keepMarker  '1' or ''
-- ARGV[3] action      requeue | purge
-- ARGV[4] limit       without ids: how many, those that died first; '' with ids
-- ARGV[5…] ids        of the jobs; those that are not in the dead letters are left out
-- returns how many were taken, in decimal | TOO_LATE
${luaOperation}${luaHistoryKept}${luaWake}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end
redis.call('LLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('HLEN', KEYS[5])

local ids = {}
if ARGV[4] ~= '' then
  ids = redis.call('ZRANGE', KEYS[2], 0, string.format('%.0f', tonumber(ARGV[4]) - 1))
else
  for i = 5, #ARGV do ids[#ids + 1] = ARGV[i] end
end

local taken = 0
for _, id in ipairs(ids) do
  -- The first write frees memory: dead letters can be taken out also when there is none left.
  if redis.call('ZREM', KEYS[2], id) == 1 then
    taken = taken + 1
    if ARGV[3] == 'requeue' then
      local ended, _, _, trace = history_of(KEYS[5], id)
      keep_history(KEYS[5], id, ended, ended, 0, trace, '')
      redis.call('RPUSH', KEYS[3], id)
    else
      redis.call('HDEL', KEYS[4], id)
      redis.call('HDEL', KEYS[5], id)
    end
  end
end
if taken > 0 and ARGV[3] == 'requeue' then wake(KEYS[6]) end
return remember(digits(taken))
`,
  reply: Number,
});
