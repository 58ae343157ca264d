import { luaNow } from '../scripting/lua.js';

/**
 * Shared by the scripts on a record, which is one string:
 * `1|<state>|<token>|<fingerprint>|<kind>|<alive until>|<result>`. The first field is the version
 * of this format. The state is running, committed (by a transaction of the run), done or released.
 * The token is the owner's. The fingerprint covers caller and payload. A committed or done record
 * has the kind and bytes of the result.
 *
 * A committed record whose run goes on has the server time in ms until which the run is taken to be
 * alive. A released record is free for every other owner. The old owner's claims and renewals may
 * still arrive; they see by the state that their run is over.
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
  local state, token, fingerprint, kind, alive_until, result_at = string.match(text, '^1|(%l+)|([^|]+)|([^|]*)|([^|]*)|(%d*)|()')
  local has_result = state == 'done' or state == 'committed'
  if not (has_result and kind ~= '' or state == 'running' or state == 'released') then return 'FOREIGN' end
  return {
    state = state, token = token, fingerprint = fingerprint, kind = kind,
    alive_until = tonumber(alive_until) or 0, result = string.sub(text, result_at),
  }
end

local function record_text(state, token, fingerprint, kind, alive_until, result)
  return '1|' .. state .. '|' .. token .. '|' .. fingerprint .. '|' .. kind .. '|' .. alive_until .. '|' .. result
end

-- Of a record that has no result yet. Returns the error, where Redis refused; else a table without one.
local function write_state(key, state, token, fingerprint, ttl_ms)
  return redis.pcall('SET', key, record_text(state, token, fingerprint, '', '', ''), 'PX', ttl_ms)
end

-- Of a committed record, which keeps its result and its time. alive_until: '' once its run is over.
local function write_alive(key, record, alive_until)
  return redis.pcall('SET', key, record_text(record.state, record.token, record.fingerprint, record.kind, alive_until, record.result), 'KEEPTTL')
end

local function read_record(key)
  return parse_record(redis.pcall('GET', key))
end

local function signal_end(key)
  redis.pcall('SPUBLISH', key, '')
end
`;
