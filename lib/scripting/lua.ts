/**
 * Lua that several scripts share, pasted into their text. It uses only what Redis, Valkey and
 * Dragonfly all run: TIME may answer in strings or numbers, and a float never reaches a reply.
 */
export const luaNow = `
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
`;

/**
 * Defines `moment()`: the server's time in ms, and the same in µs as text of a fixed length, which
 * sorts by time.
 */
export const luaMoment = `
local function moment()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), string.format('%010.0f%06.0f', t[1], t[2])
end
`;

/** Defines `clock()`: the server's time in ms, and the same in µs, both as numbers. */
export const luaClock = `
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), t[1] * 1000000 + t[2]
end
`;

/**
 * Defines `type_of(key)`: string, hash, list, …, or none. It finds a wrong type without an error
 * that only its text identifies.
 */
export const luaTypeOf = `
local function type_of(key)
  local found = redis.call('TYPE', key)
  if type(found) == 'table' then return found.ok end
  return found
end
`;

/**
 * Defines `text_at(key)`: the string there, or false where there is none. Its second result is true
 * where the key holds another type. A read that is refused for another reason, such as the user's
 * rights, is raised.
 */
export const luaTextAt = `${luaTypeOf}
local function text_at(key)
  local text = redis.pcall('GET', key)
  if type(text) ~= 'table' then return text, false end
  local kind = type_of(key)
  if kind == 'string' or kind == 'none' then redis.call('GET', key) end
  return false, true
end
`;
