import { luaOperation } from '../redis/lua-operation.js';
import { luaTypeOf } from '../redis/lua.js';
import { defineScript } from '../redis/script.js';
import { Answer, toValueAnswer, TtlChange } from './value-answer.js';

/** Replaces or deletes a value if it is the expected one. */
export const compareAndSwapScript = defineScript({
  name: 'values.compareAndSwap',
  keys: ['marker', 'value'],
  args: ['notAfterMs', 'keepMarker', 'hasExpected', 'expected', 'hasNext', 'next', 'ttl'],
  binary: true,
  reply: toValueAnswer,
  lua: `
-- KEYS[1]  marker: of this operation
-- KEYS[2]  the value: a string
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1', or '' for none
-- ARGV[3]  hasExpected: '1', or '' when the key is expected to be absent
-- ARGV[4]  expected: bytes
-- ARGV[5]  hasNext: '1', or '' to delete the value
-- ARGV[6]  next: bytes
-- ARGV[7]  ttl: keep | none | milliseconds
-- Returns TOO_LATE, or an array: SWAPPED | REFUSED, current value if there is one | WRONG_TYPE
${luaOperation}${luaTypeOf}
local kind = type_of(KEYS[2])
local current = false
if kind == 'string' then current = redis.call('GET', KEYS[2]) end

-- The marker says that it was refused, not what was there, which may be large: a copy is told what is there when it comes.
local function refused()
  if kind ~= 'string' and kind ~= 'none' then return {'${Answer.WrongType}'} end
  if not current then return {'${Answer.Refused}'} end
  return {'${Answer.Refused}', current}
end

local stored = recall()
if stored == '${Answer.Swapped}' then return {stored} end
if stored then return refused() end
if is_late() then return 'TOO_LATE' end

local expected = ARGV[3] == '1' and ARGV[4]
if current ~= expected or (kind ~= 'string' and kind ~= 'none') then
  remember('${Answer.Refused}')
  return refused()
end
remember('${Answer.Swapped}')
if ARGV[5] == '' then
  redis.call('DEL', KEYS[2])
elseif ARGV[7] == '${TtlChange.Keep}' then
  redis.call('SET', KEYS[2], ARGV[6], 'KEEPTTL')
elseif ARGV[7] == '${TtlChange.None}' then
  redis.call('SET', KEYS[2], ARGV[6])
else
  redis.call('SET', KEYS[2], ARGV[6], 'PX', ARGV[7])
end
return {'${Answer.Swapped}'}
`,
});
