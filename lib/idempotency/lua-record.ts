import { luaNow, luaOtherType } from '../scripting/lua.js';

/**
 * Shared by the scripts on a record, which is one string:
 * `1|<state>|<token>|<fingerprint>|<kind>|<alive until>|<trace>|<result>`. The first field is the
 * version of this format. The token is the owner's. The fingerprint covers caller and payload. A
 * committed or done record has the kind and bytes of the result.
 *
 * | state       | a run with the key                                          | others with the key       |
 * | ----------- | ----------------------------------------------------------- | ------------------------- |
 * | running     | is under way; the record ends with its lease                | wait                      |
 * | lasting     | is under way until `alive until`, or has died; it has steps | wait, or go on after that |
 * | failed      | gave the key back, and has steps                            | go on                     |
 * | committed   | was committed by its transaction, and may go on             | wait, or get the result   |
 * | done        | is over                                                     | get the result            |
 * | released    | gave the key back                                           | run                       |
 *
 * `alive until` is server time in ms. The trace is empty unless a later run continues this one's
 * work: then it is `<retention ms>;<attempt>;<abandoned>;<more>`, as `run-trace.ts` writes it, and
 * a lasting or failed record lives for the retention after its run. A released record may have a
 * trace too, of attempt 0, that the next run begins with. The owner's claims and renewals may still
 * arrive after the end; they see by the state that their run is over.
 *
 * `read_record(key)`, or `parse_record` of a reply of GET, returns nil if there is no record. It
 * returns FOREIGN for anything that this format did not write: another type, another version, an
 * unknown state, a result without a kind. `signal_end` wakes the waiters of the run, by a message
 * on the sharded channel named as the record, which hence lies in its slot. The message is a
 * courtesy: it fails in silence if the user may not publish.
 */
export const luaRecord = `${luaNow}
local function parse_record(text)
  if not text then return nil end
  if type(text) == 'table' then return 'FOREIGN' end
  local state, token, fingerprint, kind, alive_until, trace, result_at = string.match(text, '^1|(%l+)|([^|]+)|([^|]*)|([^|]*)|(%d*)|([^|]*)|()')
  local has_result = state == 'done' or state == 'committed'
  local has_trace = (state == 'lasting' or state == 'failed') and trace ~= ''
  if not (has_result and kind ~= '' or has_trace or state == 'running' or state == 'released') then return 'FOREIGN' end
  return {
    state = state, token = token, fingerprint = fingerprint, kind = kind,
    alive_until = tonumber(alive_until) or 0, trace = trace, result = string.sub(text, result_at),
  }
end

local function record_text(state, token, fingerprint, kind, alive_until, trace, result)
  return '1|' .. state .. '|' .. token .. '|' .. fingerprint .. '|' .. kind .. '|' .. alive_until .. '|' .. trace .. '|' .. result
end

-- Of a record that has no result yet. Returns the error, where Redis refused; else a table without one.
local function write_state(key, state, token, fingerprint, ttl_ms)
  return redis.pcall('SET', key, record_text(state, token, fingerprint, '', '', '', ''), 'PX', ttl_ms)
end

-- Of a committed record, which keeps its result and its time. alive_until: '' once its run is over.
local function write_alive(key, record, alive_until)
  return redis.pcall('SET', key, record_text(record.state, record.token, record.fingerprint, record.kind, alive_until, record.trace, record.result), 'KEEPTTL')
end

-- The time that a record with this trace outlives its run, in ms.
local function retention_of(trace)
  return tonumber(string.match(trace, '^%d+'))
end

-- Of a record that outlives its lease. Returns as write_state does.
local function write_lasting(key, token, fingerprint, trace, now, lease_ms)
  local text = '1|lasting|' .. token .. '|' .. fingerprint .. '||' .. string.format('%.0f', now + lease_ms) .. '|' .. trace .. '|'
  return redis.pcall('SET', key, text, 'PX', string.format('%.0f', lease_ms + retention_of(trace)))
end

local function read_record(key)
  local text = redis.pcall('GET', key)
  if type(text) == 'table' then
    ${luaOtherType('string', 'key', "redis.call('GET', key)")}
  end
  return parse_record(text)
end

local function signal_end(key)
  redis.pcall('SPUBLISH', key, '')
end
`;

/**
 * The opening of scripts whose calls share an EVALSHA. Several records are read by one command.
 * `text_of(key)` is false for what is no string, too; a read that is refused is raised.
 *
 * A script pays for each function that it defines. So the scripts do first what nearly every call
 * comes to, and have `luaRecord` behind that.
 *
 * @param keys number of the keys of one call
 */
export const luaRecordsAtOnce = (keys = 1): string => `
local texts = {}
if #KEYS > ${keys} then
  local found = redis.call('MGET', (table.unpack or unpack)(KEYS))
  for i, key in ipairs(KEYS) do texts[key] = found[i] or false end
end

-- The first call for a key may change it. The next reads again.
local function text_of(key)
  local text = texts[key]
  texts[key] = nil
  if text == nil then text = redis.pcall('GET', key) end
  if type(text) ~= 'table' then return text end
  ${luaOtherType('string', 'key', "redis.call('GET', key)")}
  return false
end
`;

/** Lua that defines `token` and `fingerprint` by a record of a run, or its beginning. */
export const luaOwnerOf = (record: string): string =>
  `local token, fingerprint = string.match(${record}, '^1|%l+|([^|]+)|([^|]*)|')`;

/**
 * The index of a slot: a sorted set of the records that an operator may have to look at, by the
 * server time in ms at which each was last put there. `keep_ms` after that a record has surely
 * expired. The index lives for twice that, so that few calls prolong it; these also delete the
 * entries of expired records.
 */
export const luaIndex = `
local function index_record(index, record, keep_ms, now)
  redis.call('ZADD', index, string.format('%.0f', now), record)
  local lives_ms = redis.call('PTTL', index)
  if lives_ms >= keep_ms then return end
  redis.call('PEXPIRE', index, string.format('%.0f', 2 * keep_ms))
  -- One that has just begun has no other entries.
  if lives_ms > 0 then redis.call('ZREMRANGEBYSCORE', index, '-inf', string.format('%.0f', now - keep_ms)) end
end
`;
