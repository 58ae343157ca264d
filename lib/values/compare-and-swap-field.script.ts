import { luaOperation } from '../redis/lua-operation.js';
import { luaTypeOf } from '../redis/lua.js';
import { defineScript } from '../redis/script.js';
import { Answer, toValueAnswer } from './value-answer.js';

/** Replaces or deletes a field of a hash if it is the expected one. */
export const compareAndSwapFieldScript = defineScript({
  name: 'values.compareAndSwapField',
  keys: ['marker', 'hash'],
  args: ['notAfterMs', 'keepMarker', 'field', 'hasExpected', 'expected', 'hasNext', 'next'],
  binary: true,
  reply: toValueAnswer,
  lua: `
-- KEYS[1]  marker: of this operation
-- KEYS[2]  the hash
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1', or '' for none
-- ARGV[3]  field: bytes
-- ARGV[4]  hasExpected: '1', or '' when the field is expected to be absent
-- ARGV[5]  expected: bytes
-- ARGV[6]  hasNext: '1', or '' to delete the field
-- ARGV[7]  next: bytes
-- Returns TOO_LATE, or an array: SWAPPED | REFUSED, current value if there is one | WRONG_TYPE
${luaOperation}${luaTypeOf}
local kind = type_of(KEYS[2])
local current = false
if kind == 'hash' then current = redis.call('HGET', KEYS[2], ARGV[3]) end

-- The marker says that it was refused, not what was there, which may be large: a copy is told what is there when it comes.
local function refused()
  if kind ~= 'hash' and kind ~= 'none' then return {'${Answer.WrongType}'} end
  if not current then return {'${Answer.Refused}'} end
  return {'${Answer.Refused}', current}
end

local stored = recall()
if stored == '${Answer.Swapped}' then return {stored} end
if stored then return refused() end
if is_late() then return 'TOO_LATE' end

local expected = ARGV[4] == '1' and ARGV[5]
if current ~= expected or (kind ~= 'hash' and kind ~= 'none') then
  remember('${Answer.Refused}')
  return refused()
end
remember('${Answer.Swapped}')
if ARGV[6] == '' then
  redis.call('HDEL', KEYS[2], ARGV[3])
else
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[7])
end
return {'${Answer.Swapped}'}
`,
});
