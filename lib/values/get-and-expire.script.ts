import { defineScript } from '../redis/script.js';
import { luaKeptAnswer } from './lua-kept-answer.js';
import { Answer, toValueAnswer } from './value-answer.js';

/** Changes a value's time to live and answers with the value. */
export const getAndExpireScript = defineScript({
  name: 'values.getAndExpire',
  keys: ['marker', 'value'],
  args: ['notAfterMs', 'keepMarker', 'command', 'timeMs'],
  binary: true,
  reply: toValueAnswer,
  lua: `
-- KEYS[1]  marker: of this operation; holds a copy of the value, which may have expired when a copy of the operation comes
-- KEYS[2]  the value: a string
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1', or '' for none
-- ARGV[3]  command: PEXPIRE | PEXPIREAT | PERSIST
-- ARGV[4]  timeMs: milliseconds from now | milliseconds of Redis's clock | ''
-- Returns TOO_LATE, or an array: VALUE, the value | ABSENT | WRONG_TYPE
${luaKeptAnswer}
local stored = recall_answer()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

local none = no_value(KEYS[2])
if none then return remember_answer(none) end
local answer = remember_answer({'${Answer.Value}', redis.call('GET', KEYS[2])})
if ARGV[3] == 'PERSIST' then
  redis.call('PERSIST', KEYS[2])
elseif ARGV[3] == 'PEXPIRE' then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
else
  redis.call('PEXPIREAT', KEYS[2], ARGV[4])
end
return answer
`,
});
