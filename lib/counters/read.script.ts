import { luaInt64 } from '../redis/lua-int64.js';
import { defineScript } from '../redis/script.js';
import { ABSENT, BatchAnswer } from './apply.script.js';

/** Reads a counter. A script, so that a key of another type is an answer and not an error to be told by its text. */
export const readScript = defineScript({
  name: 'counters.read',
  keys: ['counter'],
  args: [],
  reply: String,
  lua: `
-- KEYS[1]  the counter
-- Returns a string: the value in decimal | absent | NOT_AN_INTEGER | WRONG_TYPE
${luaInt64}
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then return '${BatchAnswer.WrongType}' end
if not stored then return '${ABSENT}' end
if not int64_parse(stored) then return '${BatchAnswer.NotAnInteger}' end
return stored
`,
});
