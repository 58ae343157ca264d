import { luaIndex, luaRecord } from '../lua-record.js';

/**
 * Shared by the scripts on the steps of a run. They are one hash: a field for each step, and the
 * field '' with the lineage of the runs that they belong to, or `lost <lineage>` where Redis has
 * lost some of them: no attempt may go on with the rest. A step is `begun|<mark>`, where the mark
 * names the begin, or `done|<kind>|<server time in ms until which it counts, or 0>|<result>`. It is
 * `undone|<mark>` after that begin was taken back, which counts as no entry.
 *
 * `may_change(record, token)` returns nil, or the word that tells why the run may not change its
 * steps. `open_steps` makes the record one that outlives its lease, and the hash one of this
 * lineage; both but once. `is_past(known, mark)` is true if the entry is of this begin or a later
 * one of the same run: marks are `<token>.<number>`.
 */
export const luaSteps = `${luaRecord}${luaIndex}
local function may_change(record, token)
  if not record then return nil end
  if record == 'FOREIGN' or record.token ~= token then return 'lease-lost' end
  if record.state == 'committed' or record.state == 'done' then return 'ended' end
  if record.state ~= 'running' and record.state ~= 'lasting' then return 'lease-lost' end
  return nil
end

local function is_past(known, mark)
  local token, number = string.match(mark, '^(.*)%.(%d+)$')
  local by, last = string.match(known or '', '^%l+|([^|]*)%.(%d+)$')
  return token ~= nil and by == token and tonumber(last) >= tonumber(number)
end

local function open_steps(keys, record, run, now)
  if not record or record.state == 'running' or record.trace ~= run.trace then
    local lease_ms = run.lease_ms
    if record and record.state == 'lasting' then
      lease_ms = record.alive_until - now
    elseif record then
      local ttl = redis.call('PTTL', keys.record)
      if ttl > 0 then lease_ms = ttl end
    end
    local written = write_lasting(keys.record, run.token, run.fingerprint, run.trace, now, math.max(1, lease_ms))
    if written.err then return written end
  end
  local lineage = string.match(run.trace, '^%d+;%d+;%d;%d;([^;]*);')
  local known, lost = redis.call('HGET', keys.steps, ''), 'lost ' .. lineage
  if known ~= lineage and known ~= lost then
    redis.call('DEL', keys.steps)
    -- A later attempt must not take what is kept from now on for all that there was.
    redis.call('HSET', keys.steps, '', run.has_steps and lost or lineage)
  end
  -- Both outlive the record by far, so that few steps prolong them.
  if redis.call('PTTL', keys.steps) < run.keep_ms - retention_of(run.trace) then
    redis.call('PEXPIRE', keys.steps, string.format('%.0f', run.keep_ms))
    index_record(keys.index, keys.record, run.keep_ms, now)
  end
  return nil
end
`;
