import { luaOperation } from '../operations/lua-operation.js';
import type { AnswerKeeping } from '../operations/operation-text.js';
import { luaTypeOf } from '../scripting/lua.js';
import { Answer } from './value-answer.js';

/**
 * Keeps an answer that is the value of a key. A value that the operation takes away becomes the
 * marker itself, by RENAME, so it is not in memory twice. Any other answer is kept as a list of its
 * elements, which cannot be confused with a value.
 */
export const keptValue: AnswerKeeping = {
  recall: 'recall_answer()',
  lua: `${luaOperation}${luaTypeOf}
local function recall_answer()
  if ARGV[2] == '' then return nil end
  local kind = type_of(KEYS[1])
  if kind == 'string' then return {'${Answer.Value}', redis.call('GET', KEYS[1])} end
  if kind == 'list' then return redis.call('LRANGE', KEYS[1], 0, -1) end
  return nil
end

local function remember_answer(answer)
  if ARGV[2] ~= '' then
    for _, element in ipairs(answer) do redis.call('RPUSH', KEYS[1], element) end
    redis.call('PEXPIREAT', KEYS[1], marker_end())
  end
  return answer
end

-- Takes the value away from its key.
local function take(key)
  if ARGV[2] == '' then
    redis.call('DEL', key)
  else
    redis.call('RENAME', key, KEYS[1])
    redis.call('PEXPIREAT', KEYS[1], marker_end())
  end
end
`,
};

/** Defines `no_value(key)`: the answer if the key has no value; nil if it has one. */
export const luaNoValue = `
local function no_value(key)
  local kind = type_of(key)
  if kind == 'none' then return {'${Answer.Absent}'} end
  if kind ~= 'string' then return {'${Answer.WrongType}'} end
  return nil
end
`;
