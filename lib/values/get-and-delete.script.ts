import { defineScript } from '../redis/script.js';
import { luaKeptAnswer } from './lua-kept-answer.js';
import { Answer, toValueAnswer } from './value-answer.js';

/** Deletes a value and answers with it. */
export const getAndDeleteScript = defineScript({
  name: 'values.getAndDelete',
  keys: ['marker', 'value'],
  args: ['notAfterMs', 'keepMarker'],
  binary: true,
  reply: toValueAnswer,
  lua: `
-- KEYS[1]  marker: of this operation; holds the value that was taken away
-- KEYS[2]  the value: a string
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1', or '' for none
-- Returns TOO_LATE, or an array: VALUE, the value | ABSENT | WRONG_TYPE
${luaKeptAnswer}
local stored = recall_answer()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

local none = no_value(KEYS[2])
if none then return remember_answer(none) end
local value = redis.call('GET', KEYS[2])
-- No write of this needs memory: where Redis has none left, all of them are made.
take(KEYS[2])
return {'${Answer.Value}', value}
`,
});
