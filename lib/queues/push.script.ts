import { luaMoment } from '../redis/lua.js';
import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';
import { luaDelay, luaWake } from './lua-queue.js';

/** Puts jobs at the end of a queue, or among those that wait for their time, all or none. Their marker outlives the push, so that a copy of it does nothing even when the jobs are done. */
export const pushScript = defineScript({
  name: 'queues.push',
  keys: ['marker', 'pending', 'jobs', 'history', 'wake', 'delayed'],
  args: ['notAfterMs', 'keepMarker', 'traces', 'delays', '...idsAndPayloads'],
  lua: `
-- KEYS[1] marker      kept answer, by which a copy is known
-- KEYS[2] pending     list of the ids of jobs to be taken
-- KEYS[3] jobs        hash of job id to payload
-- KEYS[4] history     hash of job id to what became of its deliveries
-- KEYS[5] wake        sorted set that waiting processes block on
-- KEYS[6] delayed     sorted set of jobs, as luaDelay names them, by when they may be taken, server time in ms
-- ARGV[1] notAfterMs  server time in ms past which nothing is done
-- ARGV[2] keepMarker  '1' or ''
-- ARGV[3] traces      trace contexts of the jobs in their order, each with a comma behind it; '' when none has one
-- ARGV[4] delays      after how many ms each job may be taken, in their order, each with a comma behind it: '' for at once; '' when none waits
-- ARGV[5…] idsAndPayloads  for each job its id, then its payload
-- returns PUSHED | TOO_LATE
${luaOperation}${luaMoment}${luaWake}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end
-- A key of another type fails here, or as the first write, which needs memory too: where there is none, nothing is pushed.
redis.call('LLEN', KEYS[2])
if ARGV[3] ~= '' then redis.call('HLEN', KEYS[4]) end
local has_news = true
if ARGV[4] == '' then
  for i = 5, #ARGV, 2 do
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    redis.call('RPUSH', KEYS[2], ARGV[i])
  end
else
  local function first_delayed() return redis.call('ZRANGE', KEYS[6], '0', '0')[1] end
  local first_before, delays, i = first_delayed(), 0, 5
  has_news = false
  for delay in string.gmatch(ARGV[4], '([^,]*),') do
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    if delay == '' then
      redis.call('RPUSH', KEYS[2], ARGV[i])
      has_news = true
    else
      delays = delays + 1
      ${luaDelay('KEYS[6]', 'ARGV[i]', 'tonumber(delay)', 'delays')}
    end
    i = i + 2
  end
  -- One process at the least knows when the next is due.
  if first_delayed() ~= first_before then has_news = true end
end
local i = 5
for trace in string.gmatch(ARGV[3], '([^,]*),') do
  if trace ~= '' then redis.call('HSET', KEYS[4], ARGV[i], '0:0:0:' .. trace .. ':') end
  i = i + 2
end
if has_news then wake(KEYS[5]) end
return remember('PUSHED')
`,
  reply: () => undefined,
});
