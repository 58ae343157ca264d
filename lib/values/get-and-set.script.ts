import { defineScript } from '../redis/script.js';
import { luaKeptAnswer } from './lua-kept-answer.js';
import { Answer, toValueAnswer, TtlChange } from './value-answer.js';

/** Replaces a value and answers with the one before. */
export const getAndSetScript = defineScript({
  name: 'values.getAndSet',
  keys: ['marker', 'value'],
  args: ['notAfterMs', 'keepMarker', 'next', 'ttl'],
  binary: true,
  reply: toValueAnswer,
  lua: `
-- KEYS[1]  marker: of this operation; holds the value before
-- KEYS[2]  the value: a string
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1', or '' for none
-- ARGV[3]  next: bytes
-- ARGV[4]  ttl: keep | none | milliseconds
-- Returns TOO_LATE, or an array: VALUE, value before | ABSENT | WRONG_TYPE
${luaKeptAnswer}
local stored = recall_answer()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

local answer = no_value(KEYS[2])
local ttl = ARGV[4]
if answer then
  remember_answer(answer)
  if answer[1] == '${Answer.WrongType}' then return answer end
  if ttl == '${TtlChange.Keep}' then ttl = '${TtlChange.None}' end
else
  answer = {'${Answer.Value}', redis.call('GET', KEYS[2])}
  if ARGV[2] ~= '' then
    if ttl == '${TtlChange.Keep}' then
      -- It goes away with the old value. One that ends in this millisecond is 0, which SET would not take.
      local left = tonumber(redis.call('PTTL', KEYS[2]))
      ttl = left < 0 and '${TtlChange.None}' or string.format('%.0f', math.max(left, 1))
    end
    -- The first write: it needs memory, so where Redis has none left it is refused before the old value was taken away.
    redis.call('SET', KEYS[1], '', 'PXAT', marker_end())
    take(KEYS[2])
  end
end
if ttl == '${TtlChange.Keep}' then
  redis.call('SET', KEYS[2], ARGV[3], 'KEEPTTL')
elseif ttl == '${TtlChange.None}' then
  redis.call('SET', KEYS[2], ARGV[3])
else
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ttl)
end
return answer
`,
});
