import { luaTime } from '../scripting/lua.js';

/**
 * The time by which a marker outlives the last moment at which a copy of its operation could take
 * effect, in milliseconds. A step of the server's clock backwards, up to this far, does not let a
 * copy take effect again.
 */
const MARKER_MARGIN_MS = 60_000;

/**
 * Keeps the answer of an operation in its marker. A copy that arrives later gets that answer and
 * does nothing.
 *
 * `defineOperation` puts the marker, the time limit and the switch in front of the script's own
 * keys and arguments, and the recall and the check of the time limit in front of its Lua. That Lua
 * calls `remember(answer)` once, with a string, ahead of its other writes. This needs memory, so a
 * full Redis refuses the script before it did anything. A refusal is remembered too: a late copy
 * must not apply a call that was reported as refused.
 */
export const luaOperation = `${luaTime}
-- In server time, ms.
local function marker_end()
  return string.format('%.0f', tonumber(ARGV[1]) + ${MARKER_MARGIN_MS})
end

local function remember(answer)
  if ARGV[2] ~= '' then redis.call('SET', KEYS[1], answer, 'PXAT', marker_end()) end
  return answer
end
`;

/**
 * Lua for scripts that write several keys, some of them new. Dragonfly checks memory for each
 * command, and refuses new keys first. So new keys are made ahead of all other writes, and deleted
 * again if one is refused: nothing was done then. Redis refuses the first write of a script, or
 * none.
 *
 * `create(key, value, …)` is SET of a key that does not exist. It returns nil, or the refusal,
 * which the script then returns. `take_back(refusal)` does the same for a refusal of a later
 * command.
 */
export const luaCreate = `
local created = {}
local function take_back(refusal)
  for _, key in ipairs(created) do redis.call('DEL', key) end
  return refusal
end
local function create(key, ...)
  local answer = redis.pcall('SET', key, ...)
  if type(answer) == 'table' and answer.err then return take_back(answer) end
  created[#created + 1] = key
end
`;
