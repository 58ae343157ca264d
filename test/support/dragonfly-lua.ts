/** Commands that Dragonfly refuses when its memory is full and their key does not exist. */
const CHECKED = ['SET', 'HSET', 'LPUSH', 'RPUSH', 'ZADD', 'XADD'];

/**
 * Puts in front of a script what makes its errors those of Dragonfly: a command that is refused
 * raises text, not a table, with the code behind a dash. No line is added.
 *
 * @param refused commands that would make a new key with this in its name are refused; undefined
 * where there is memory
 */
export function withDragonflyErrors(lua: string, refused: string | undefined): string {
  const checked = CHECKED.map((name) => `${name} = true`).join(', ');
  return `${prelude(checked, refused)} ${lua}`;
}

const prelude = (checked: string, refused: string | undefined): string =>
  `
local redis = (function(server)
  local checked = { ${checked} }
  local function pcall_as(...)
    local name, key = ...
    if ${refused !== undefined} and checked[string.upper(name)] and string.find(key, '${refused ?? ''}', 1, true) and server.call('EXISTS', key) == 0 then
      return { err = 'ERR Out of memory' }
    end
    local reply = server.pcall(...)
    if type(reply) == 'table' and type(reply.err) == 'string' then
      return { err = string.find(reply.err, '^OOM') and 'ERR Out of memory' or reply.err }
    end
    return reply
  end
  local function call_as(...)
    local reply = pcall_as(...)
    if type(reply) == 'table' and type(reply.err) == 'string' then
      if string.find(reply.err, '^ERR ') then error(string.sub(reply.err, 5), 0) end
      error('-' .. reply.err, 0)
    end
    return reply
  end
  return { call = call_as, pcall = pcall_as, error_reply = server.error_reply, status_reply = server.status_reply, sha1hex = server.sha1hex }
end)(redis)
`
    .trim()
    .replaceAll(/\s*\n\s*/g, ' ');
