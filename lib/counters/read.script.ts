import { luaNow } from '../redis/lua.js';
import { defineScript } from '../redis/script.js';
import { ABSENT, luaCounter, SWEEP_LIMIT } from './lua-counter.js';

/**
 * Reads a counter, what has expired of its holds included. A script, so that a key of another type is an answer and not an error to be told by its
 * text.
 */
export const readScript = defineScript({
  name: 'counters.read',
  keys: ['counter', 'holds'],
  args: [],
  reply: String,
  lua: `
-- KEYS[1]  counter
-- KEYS[2]  holds: of the counter
-- Returns a string: the value in decimal | absent | NOT_AN_INTEGER | WRONG_TYPE | MORE
${luaNow}${luaCounter}
local c = counter_open(KEYS[1], nil, KEYS[2], now_ms(), ${SWEEP_LIMIT})
if c.problem then return c.problem end
if c.more then return 'MORE' end
if not c.value then return '${ABSENT}' end
return int64_format(c.value)
`,
});
