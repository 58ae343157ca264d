import { luaOperation } from '../redis/lua-operation.js';
import { luaTypeOf } from '../redis/lua.js';
import { defineScript } from '../redis/script.js';
import { luaNetstrings } from './netstrings.js';

/** What the script answers when it did nothing. Values before the change begin with a digit or a hyphen. */
export const UpdateRefusal = {
  HashType: 'HASH_WRONG_TYPE',
  LogType: 'LOG_WRONG_TYPE',
  Log: 'LOG_NOT_OURS',
} as const;

/** Changes fields of a hash and appends what was changed to its log. */
export const updateScript = defineScript({
  name: 'auditedHashes.update',
  keys: ['marker', 'hash', 'log'],
  args: ['notAfterMs', 'keepMarker', 'logType', 'maxEntries', 'hasActor', 'actor', '...changes'],
  binary: true,
  reply: (raw) => raw as Buffer,
  lua: `
-- KEYS[1]  marker: of this operation; holds its answer
-- KEYS[2]  the hash
-- KEYS[3]  the log: a stream with the fields field, old, new and actor, those without a value left out;
--          or a list of netstrings: id, field, old, new, actor; an id is milliseconds of Redis's clock, a hyphen, and a number that counts up
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1', or '' for none
-- ARGV[3]  logType: stream | list
-- ARGV[4]  maxEntries: an integer
-- ARGV[5]  hasActor: '1' or ''
-- ARGV[6]  actor: bytes
-- ARGV[7…] per change:
--   +0 field  bytes
--   +1 kind   set | delete
--   +2 value  bytes
-- Returns TOO_LATE | HASH_WRONG_TYPE | LOG_WRONG_TYPE | LOG_NOT_OURS, or a netstring per change: the value before
${luaOperation}${luaTypeOf}${luaNetstrings}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

local kind = type_of(KEYS[2])
if kind ~= 'hash' and kind ~= 'none' then return remember('${UpdateRefusal.HashType}') end
kind = type_of(KEYS[3])
if kind ~= ARGV[3] and kind ~= 'none' then return remember('${UpdateRefusal.LogType}') end

local last = 0
if kind == 'list' then
  local newest = redis.call('LINDEX', KEYS[3], '-1')
  last = tonumber(string.match(newest, '^%d+:%d+%-(%d+),'))
  if not last then return remember('${UpdateRefusal.Log}') end
end

local old = {}
local before = {}
for i = 7, #ARGV, 3 do
  old[i] = redis.call('HGET', KEYS[2], ARGV[i])
  before[#before + 1] = netstring(old[i])
end
local answer = remember(table.concat(before))

local actor = ARGV[5] == '1' and ARGV[6]
-- The first name is that of Lua 5.4, the second that of 5.1.
local spread = table.unpack or unpack

local function append_to_stream(field, old_value, new_value)
  local entry = {'XADD', KEYS[3], 'MAXLEN', ARGV[4], '*', 'field', field}
  local function add(name, value)
    if not value then return end
    entry[#entry + 1] = name
    entry[#entry + 1] = value
  end
  add('old', old_value)
  add('new', new_value)
  add('actor', actor)
  redis.call(spread(entry))
end

local time = string.format('%.0f', now_ms())
local function append_to_list(field, old_value, new_value)
  last = last + 1
  local id = time .. '-' .. string.format('%.0f', last)
  local entry = netstring(id) .. netstring(field) .. netstring(old_value) .. netstring(new_value) .. netstring(actor)
  redis.call('RPUSH', KEYS[3], entry)
end

local append = ARGV[3] == 'list' and append_to_list or append_to_stream
-- The log before the hash: an append needs memory, and is refused before anything was done where Redis has none left; deleting a field does not.
local deleted = {}
for i = 7, #ARGV, 3 do
  local field, value = ARGV[i], ARGV[i + 1] == 'set' and ARGV[i + 2]
  if old[i] or value then append(field, old[i], value) end
  if value then
    redis.call('HSET', KEYS[2], field, value)
  elseif old[i] then
    deleted[#deleted + 1] = field
  end
end
-- Last of all: a hash without fields is gone, and its time to live with it.
for _, field in ipairs(deleted) do redis.call('HDEL', KEYS[2], field) end
if ARGV[3] == 'list' then redis.call('LTRIM', KEYS[3], '-' .. ARGV[4], '-1') end
return answer
`,
});
