import { luaNow } from '../redis/lua.js';
import { defineScript } from '../redis/script.js';

/** Names consumers that have not shown for a while, so that their processing lists can be handed to `queues.reclaim`. */
export const lapsedScript = defineScript({
  name: 'queues.lapsed',
  keys: ['consumers'],
  args: ['graceMs', 'limit', 'random'],
  lua: `
-- KEYS[1] consumers   sorted set of consumer by when it last showed, server time in ms
-- ARGV[1] graceMs  how long a consumer may not show, in ms
-- ARGV[2] limit    how many to name at the most
-- ARGV[3] random   an integer: where to begin when there are more
-- returns consumers
${luaNow}
local before = string.format('%.0f', now_ms() - tonumber(ARGV[1]))
local count, limit = redis.call('ZCOUNT', KEYS[1], '-inf', before), tonumber(ARGV[2])
local from = 0
if count > limit then from = tonumber(ARGV[3]) % (count - limit + 1) end
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', string.format('%.0f', from), ARGV[2])
`,
  reply: (raw) => raw as string[],
});
