import { luaNow } from '../redis/lua.js';

/**
 * Shared by the scripts on a record: a hash with `v` format version, `s` state (running | committed, by a transaction of the run | done),
 * `t` owner token, `f` fingerprint of the payload, and once committed or done `k` kind and `r` bytes of the result.
 *
 * `read_record` answers nil where there is none, and FOREIGN for anything that this format did not write: another type, another version,
 * a state it does not know, a result in part.
 */
export const luaRecord = `${luaNow}
local function read_record(key)
  local r = redis.pcall('HMGET', key, 'v', 's', 't', 'f', 'k', 'r')
  if r.err then return 'FOREIGN' end
  if r[1] then
    local has_result = (r[2] == 'done' or r[2] == 'committed') and r[5] and r[6]
    if r[1] ~= '1' or not r[3] or not r[4] or not (r[2] == 'running' or has_result) then return 'FOREIGN' end
    return { state = r[2], token = r[3], fingerprint = r[4], kind = r[5], result = r[6] }
  end
  if redis.call('EXISTS', key) == 1 then return 'FOREIGN' end
  return nil
end

local function write_running(key, token, fingerprint, lease_ms)
  redis.call('HSET', key, 'v', '1', 's', 'running', 't', token, 'f', fingerprint)
  redis.call('PEXPIRE', key, lease_ms)
end
`;
