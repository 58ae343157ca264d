import { luaNow } from '../../redis/lua.js';
import { defineScript } from '../../redis/script.js';

/** Removes a closed transfer from its slot's list. One that is open stays. */
export const forgetScript = defineScript({
  name: 'transfers.forget',
  keys: ['intents', 'order'],
  args: ['notAfterMs', 'id'],
  reply: String,
  lua: `
-- KEYS[1]  intents: of the slot, a hash of "<state>,<amount>,<details>" by id
-- KEYS[2]  order: of the slot, a sorted set of the same ids
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  id: of the transfer
-- Returns a string: TOO_LATE | done
${luaNow}
if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
local intent = redis.call('HGET', KEYS[1], ARGV[2])
if intent and string.match(intent, '^open,') then return 'done' end
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[2])
return 'done'
`,
});
