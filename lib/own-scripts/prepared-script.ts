import { defineOperation, defineQuery, type Operation } from '../operations/operation.js';
import type { EnforceableOptions } from '../operations/operation.options.js';
import type { Script, ScriptArgument } from '../scripting/script.js';
import { decodeReply, luaEncode } from './script-reply.js';

/** One run of a user's script: KEYS and ARGV in their order. */
export interface ScriptRun {
  readonly keys: readonly string[];
  readonly args: readonly ScriptArgument[];
}

/** A user's script as it is sent. Its own `reply` runs in the context of the caller. */
export type PreparedScript = Operation<'scripts.run', ScriptRun, EnforceableOptions, ScriptRun>;

const NAMES = {
  keys: { '...keys': 'the script’s own' },
  args: { '...args': 'the script’s own' },
  returns: 'the script’s reply, encoded',
} as const;

/** Makes the parts that all prepared scripts share. */
const statementOf = (script: Script) => ({
  ...NAMES,
  type: 'scripts.run' as const,
  name: script.name,
  binary: true,
  // The reply is decoded at once, so that the script's own reader sees it only once.
  reply: (raw: unknown): unknown => decodeReply(script, raw as Buffer),
  check: (run: ScriptRun) => run,
  encode: ({ keys, args }: ScriptRun) => ({ keys: { keys }, args: { args } }),
  decode: (reply: unknown): unknown => script.reply(reply),
});

/** Prepares a read-only script. It runs as it is, and its reply is encoded. */
export const prepareRead = (script: Script, checkKeys: boolean): PreparedScript =>
  defineQuery({
    ...statementOf(script),
    // Ahead of the header too, so that line numbers in Lua's errors are the user's.
    verbatim: runBody(script.lua, checkKeys),
    lua: `return run_body(0, 0)`,
  });

/**
 * Prepares any other script. It runs once, and its encoded reply is kept in the marker. Nothing is
 * written before the user's text runs, so a script that never ends and has written nothing can be
 * killed. If Redis has no memory left for the marker, the script has written nothing either: once a
 * script has written, Redis refuses it no memory.
 */
export const prepareOperation = (script: Script, checkKeys: boolean): PreparedScript =>
  defineOperation({
    ...statementOf(script),
    verbatim: runBody(script.lua, checkKeys),
    does: () => `Running ${script.name}`,
    lua: `
local answer = run_body(1, 2)
-- The user's text may have told Redis not to replicate what follows.
if redis.set_repl then redis.set_repl(redis.REPL_ALL) end
return remember(answer)
`,
  });

/**
 * Lua that makes a function of the user's text, and `run_body(skip_keys, skip_args)`, which returns
 * its encoded reply.
 *
 * The user's text stands first, so that line numbers in Lua's errors are the user's, and nothing of
 * the library's is in its scope. It gets KEYS and ARGV of its own, without those of the library. An
 * error that it raises becomes a reply: neither ioredis nor the script runner can then mistake a
 * word in it for a reason to send the script again.
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
 * Asks Redis for the keys of each command before it is sent. COMMAND GETKEYS answers with an error
 * if a command has no keys, or if a server does not let scripts ask; then there is nothing to
 * check.
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
