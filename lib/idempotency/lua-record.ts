import { luaNow } from '../redis/lua.js';

/**
 * Shared by the scripts on a record: a hash with `v` format version, `s` state (running | committed, by a transaction of the run | done | released), `t` owner
 * token, `f` fingerprint of the payload, and once committed or done `k` kind and `r` bytes of the result. A committed record whose run goes on has `u`, the server
 * time in ms until which the run is taken to be alive. A released record is free for every other owner; its own claims and renewals, which may yet arrive, know by it
 * that their run is over.
 *
 * `read_record` answers nil where there is none, and FOREIGN for anything that this format did not write: another type, another version,
 * a state it does not know, a result in part. `signal_end` wakes those who wait for the run, by a message on the sharded channel that is named
 * as the record, and hence lies in its slot; it is a courtesy, and fails in silence where the user may not publish.
 */
export const luaRecord = `${luaNow}
local function read_record(key)
  local r = redis.pcall('HMGET', key, 'v', 's', 't', 'f', 'k', 'r', 'u')
  if r.err then return 'FOREIGN' end
  if r[1] then
    local has_result = (r[2] == 'done' or r[2] == 'committed') and r[5] and r[6]
    if r[1] ~= '1' or not r[3] or not r[4] or not (r[2] == 'running' or r[2] == 'released' or has_result) then return 'FOREIGN' end
    return { state = r[2], token = r[3], fingerprint = r[4], kind = r[5], result = r[6], alive_until = tonumber(r[7] or '0') }
  end
  if redis.call('EXISTS', key) == 1 then return 'FOREIGN' end
  return nil
end

-- Of a record that has no result yet. Returns the error, where Redis refused; else a table without one.
local function write_state(key, state, token, fingerprint, ttl_ms)
  local written = redis.pcall('HSET', key, 'v', '1', 's', state, 't', token, 'f', fingerprint)
  if type(written) == 'table' and written.err then return written end
  redis.call('PEXPIRE', key, ttl_ms)
  return {}
end

local function signal_end(key)
  redis.pcall('SPUBLISH', key, '')
end
`;
