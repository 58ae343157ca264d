/**
 * Lua that several scripts share, pasted into their text. Kept to what Redis, Valkey and Dragonfly all run:
 * TIME may answer in strings or numbers, and a float never reaches a reply.
 */
export const luaNow = `
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
`;

/** `type_of(key)`: string, hash, list, …, or none. Tells a wrong type without an error that would have to be told by its text. */
export const luaTypeOf = `
local function type_of(key)
  local found = redis.call('TYPE', key)
  if type(found) == 'table' then return found.ok end
  return found
end
`;
