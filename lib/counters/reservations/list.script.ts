import { luaNow } from '../../redis/lua.js';
import { defineScript } from '../../redis/script.js';

/** Reads what is held of a counter. */
export const listScript = defineScript({
  name: 'reservations.list',
  keys: ['counter', 'holds'],
  args: [],
  readOnly: true,
  reply: (raw) => {
    const flat = raw as string[];
    return Array.from({ length: flat.length / 2 }, (_, i) => ({
      hold: flat[2 * i]!,
      expiresAtMs: Number(flat[2 * i + 1]),
    }));
  },
  lua: `
-- KEYS[1]  counter
-- KEYS[2]  holds: of the counter, a sorted set of "<quantity>:<nonce>" by expiry
-- Returns an array of strings: for each hold that has not expired, soonest first, "<quantity>:<nonce>" and when it expires
${luaNow}
-- What was held of a counter that is gone is void.
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local held = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. string.format('%.0f', now_ms()), '+inf', 'WITHSCORES')
for i = 2, #held, 2 do held[i] = string.format('%.0f', tonumber(held[i])) end
return held
`,
});
