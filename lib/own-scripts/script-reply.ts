import { RedisReplyError } from '../atomic-redis.errors.js';
import type { Script } from '../scripting/script.js';
import { UndeclaredKeyError } from './script.errors.js';

/**
 * Lua that writes a script's reply as one string, which can be kept and given back exactly:
 * `encode(...)` of the first of its arguments. Values are those that Redis would make of them:
 * numbers are cut to integers, `true` is 1, `false` is nil, lists end at their first nil.
 *
 *     n                      nil
 *     i<digits>;             integer
 *     s<bytes>:<text>        string or status
 *     e<bytes>:<text>        error
 *     a<items>:<items…>      list
 *
 * If the script was stopped at a key that it does not declare, the whole reply is `u`, then the
 * command and the key as strings.
 */
export const luaEncode = `
local function encode(value)
  local out = {}
  local put

  local function put_text(tag, text)
    out[#out + 1] = tag .. #text .. ':'
    out[#out + 1] = text
  end

  local function put_list(list)
    local count = 0
    while list[count + 1] ~= nil do count = count + 1 end
    out[#out + 1] = 'a' .. count .. ':'
    for i = 1, count do put(list[i]) end
  end

  -- What redis.setresp(3) adds, as a connection of version 2 is given it.
  local function put_resp3(value)
    local list = {}
    if value.double then return put_text('s', string.format('%.17g', value.double)) end
    if value.big_number then return put_text('s', value.big_number) end
    if value.verbatim_string then return put_text('s', value.verbatim_string.string) end
    for key, item in pairs(value.map or value.set) do
      list[#list + 1] = key
      if value.map then list[#list + 1] = item end
    end
    put_list(list)
  end

  put = function(value)
    local kind = type(value)
    if kind == 'string' then
      put_text('s', value)
    elseif kind == 'number' then
      local whole = value < 0 and math.ceil(value) or math.floor(value)
      out[#out + 1] = 'i' .. string.format('%.0f', whole + 0) .. ';'
    elseif value == true then
      out[#out + 1] = 'i1;'
    elseif kind ~= 'table' then
      out[#out + 1] = 'n'
    elseif value.err then
      put_text('e', tostring(value.err))
    elseif value.ok then
      put_text('s', tostring(value.ok))
    elseif value.double or value.map or value.set or value.big_number or value.verbatim_string then
      put_resp3(value)
    else
      put_list(value)
    end
  end

  put(value)
  return table.concat(out)
end
`;

/**
 * Decodes a script's reply to the values that ioredis would return: strings, or Buffers for a
 * `binary` script, numbers, null, lists, and an Error for an error inside a list.
 *
 * @throws RedisReplyError when the whole reply is an error
 * @throws UndeclaredKeyError
 */
export function decodeReply(script: Script, reply: Buffer): unknown {
  let at = 0;
  const until = (end: string): string => {
    const stop = reply.indexOf(end, at);
    const text = reply.toString('latin1', at, stop);
    at = stop + 1;
    return text;
  };
  const bytes = (): Buffer => {
    const length = Number(until(':'));
    at += length;
    return reply.subarray(at - length, at);
  };
  const next = (): unknown => {
    const tag = String.fromCharCode(reply[at++]!);
    switch (tag) {
      case 'n':
        return null;
      case 'i':
        return Number(until(';'));
      case 's':
        return script.binary ? bytes() : bytes().toString();
      case 'e':
        return failureOf(script, bytes().toString());
      case 'a':
        return Array.from({ length: Number(until(':')) }, next);
      default: {
        at++;
        const command = bytes().toString();
        at++;
        return new UndeclaredKeyError(script.name, bytes().toString(), command);
      }
    }
  };
  const decoded = next();
  if (decoded instanceof Error) throw decoded;
  return decoded;
}

/**
 * Makes the error of a script. Lua's errors begin with their place; those of commands end with it.
 */
function failureOf(script: Script, text: string): RedisReplyError {
  const [, line, rest] = /^user_script:(\d+): (.*)$/s.exec(text) ?? [];
  // Dragonfly puts a dash in front of a code, and reports full memory without a code.
  const bare = text.replace(/^-(?=[A-Z])/, '');
  const code = /^[A-Z][A-Z0-9]*(?= )/.exec(bare)?.[0] ?? (bare === 'Out of memory' ? 'OOM' : 'ERR');
  const message = line === undefined ? bare : `${rest} (line ${line})`;
  return new RedisReplyError(code, `Script ${script.name} failed: ${message}`, {
    outcome: script.readOnly ? 'not-applied' : 'unknown',
  });
}
