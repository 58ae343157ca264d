import { luaOperation } from '../redis/lua-operation.js';
import type { OperationScript } from '../redis/operation-runner.js';
import { defineScript, type Script } from '../redis/script.js';
import { decodeReply, luaEncode } from './script-reply.js';

/** A user's read-only script as it is sent. What it replied is for the script's own `reply` to read, where its caller runs. */
export type PreparedRead = Script<readonly ['...keys'], readonly ['...args']>;

/** Any other script of the user's as it is sent. */
export type PreparedOperation = OperationScript<readonly ['...keys'], readonly ['...args'], unknown>;

/** A read-only script is run as it is, and its reply encoded. */
export const prepareRead = (script: Script, checkKeys: boolean): PreparedRead =>
  defineScript({
    name: script.name,
    keys: ['...keys'],
    args: ['...args'],
    binary: true,
    readOnly: true,
    lua: `${runBody(script.lua, checkKeys)}
return run_body(0, 0)
`,
    reply: (raw) => decodeReply(script, raw as Buffer),
  });

/**
 * Any other script is run once, and its encoded reply kept in the marker. Nothing is written before the user's text: a script that never ends and has written
 * nothing can so be killed. Where Redis has no memory left for the marker, the script has written nothing either: once it has, Redis refuses it no memory.
 */
export const prepareOperation = (script: Script, checkKeys: boolean): PreparedOperation =>
  defineScript({
    name: script.name,
    keys: ['marker', '...keys'],
    args: ['notAfterMs', 'keepMarker', '...args'],
    binary: true,
    lua: `${runBody(script.lua, checkKeys)}${luaOperation}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end
local answer = run_body(1, 2)
-- The user's text may have told Redis not to replicate what follows.
if redis.set_repl then redis.set_repl(redis.REPL_ALL) end
return remember(answer)
`,
    reply: (raw) => decodeReply(script, raw as Buffer),
  });

/**
 * Lua that makes a function of the user's text, and `run_body(skip_keys, skip_args)`, which answers with its encoded reply.
 *
 * The user's text stands first, so that Lua's errors count its lines as the user does, and nothing of the library's is in its scope. It is given
 * KEYS and ARGV of its own, without those of the library. Whatever it raises becomes a reply: neither ioredis nor the script runner can then
 * take a word in it for a reason to send the script again.
 */
const runBody = (text: string, checkKeys: boolean): string => `local body = function(KEYS, ARGV${
  checkKeys ? ', redis, server' : ''
}) ${text}
end
${luaEncode}
-- A text that Lua raised has its line in front. To what a command raised it is added, if a line of the user's is on the stack: it is not after a tail call.
local function explain(failure)
  if type(failure) ~= 'table' then return tostring(failure) end
  local text = tostring(failure.err)
  for level = 3, 9 do
    local _, place = pcall(error, '', level)
    local line = tonumber(string.match(place, ':(%d+):') or '')
    if line and line <= ${text.split('\n').length} then return text .. ' (line ' .. line .. ')' end
  end
  return text
end

local function run_body(skip_keys, skip_args)
  local keys, args = {}, {}
  for i = skip_keys + 1, #KEYS do keys[#keys + 1] = KEYS[i] end
  for i = skip_args + 1, #ARGV do args[#args + 1] = ARGV[i] end
${checkKeys ? luaCheckedRun : luaRun}
  if done then return result end
  return encode({ err = result })
end
`;

const luaRun = `
  local done, result = xpcall(function() return encode(body(keys, args)) end, explain)
`;

/**
 * Asks Redis for the keys of each command before it is sent. COMMAND GETKEYS answers with an error where a command has no keys, and where a server
 * does not let scripts ask; then there is nothing to check.
 */
const luaCheckedRun = `
  local declared, undeclared = {}, nil
  for i = 1, #keys do declared[keys[i]] = true end
  local function check(name, ...)
    local found = redis.pcall('COMMAND', 'GETKEYS', name, ...)
    if type(found) ~= 'table' or found.err then return end
    for i = 1, #found do
      if not declared[found[i]] then
        undeclared = 'u' .. encode(name) .. encode(found[i])
        error('a key that is not declared')
      end
    end
  end
  local checked = setmetatable({
    call = function(...)
      check(...)
      local reply = redis.pcall(...)
      if type(reply) == 'table' and reply.err then error(reply) end
      return reply
    end,
    pcall = function(...)
      check(...)
      return redis.pcall(...)
    end,
  }, { __index = redis })
  -- Valkey's other name for it, which Redis does not have.
  local server = rawget(_G, 'server') and checked
  local done, result = xpcall(function() return encode(body(keys, args, checked, server)) end, explain)
  if undeclared then return undeclared end
`;
