import type { Renewal } from '../leases/lease-keeper.js';
import { defineScript } from '../scripting/script.js';
import { luaIndex, luaRecord } from './lua-record.js';

/** The number of arguments that describe one lease. */
export const FIELDS_PER_LEASE = 4;

/**
 * Prolongs the leases of several runs of one slot, and takes a key again if its record vanished and
 * no other run has it; `failed` if Redis had no memory for that. The record of a run that continues
 * another's work, or has steps, is restored as such a record, even if a failover rolled it back to
 * an earlier state.
 */
export const renewScript = defineScript({
  name: 'idempotency.renew',
  keys: ['index', '...records'],
  args: ['notAfterMs', '...leases'],
  lua: `
-- KEYS[1] index     of the slot
-- KEYS[2…] records
-- ARGV[1] notAfterMs  server time in ms past which nothing is written
-- ARGV[2…] leases, per record:
--   +0 token        owner of the run
--   +1 fingerprint  of caller and payload
--   +2 leaseMs      time to live of the claim in ms, from now
--   +3 trace        of a run whose record is known to outlive its lease; else ''
-- returns TOO_LATE | per record, joined by commas: renewed | lost | failed
${luaRecord}${luaIndex}
local now = now_ms()
if now > tonumber(ARGV[1]) then return 'TOO_LATE' end

local function put_back(key, token, fingerprint, lease_ms, trace)
  if write_lasting(key, token, fingerprint, trace, now, tonumber(lease_ms)).err then return 'failed' end
  index_record(KEYS[1], key, tonumber(lease_ms) + 2 * retention_of(trace), now)
  return 'renewed'
end

-- A run's first step is the one change of its trace: what differs from that was before it. A
-- renewal that was sent before the step has the earlier trace, which changes nothing.
local function was_rolled_back(record, trace)
  if trace == '' or record.trace == trace then return false end
  return record.state == 'running' or record.state == 'lasting' and string.match(trace, '^%d+;%d+;0;1;') ~= nil
end

local function renew(key, token, fingerprint, lease_ms, trace)
  local record = read_record(key)
  if not record then
    if trace ~= '' then return put_back(key, token, fingerprint, lease_ms, trace) end
    -- One record that Redis has no memory for must not keep the others from being renewed.
    if write_state(key, 'running', token, fingerprint, lease_ms).err then return 'failed' end
  elseif record == 'FOREIGN' or record.token ~= token or record.state == 'released' or record.state == 'failed' then
    return 'lost'
  elseif was_rolled_back(record, trace) then
    return put_back(key, token, fingerprint, lease_ms, trace)
  elseif record.state == 'running' then
    redis.call('PEXPIRE', key, lease_ms)
  elseif record.state == 'lasting' then
    if write_lasting(key, token, record.fingerprint, record.trace, now, tonumber(lease_ms)).err then return 'failed' end
  elseif record.state == 'committed' then
    -- Without memory for it, duplicates are given what was committed; nobody can run again.
    write_alive(key, record, string.format('%.0f', now + tonumber(lease_ms)))
  end
  return 'renewed'
end

local answers = {}
for i = 2, #KEYS do
  local at = 2 + (i - 2) * ${FIELDS_PER_LEASE}
  answers[i - 1] = renew(KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
end
return table.concat(answers, ',')
`,
  reply: (raw): Renewal[] => String(raw).split(',') as Renewal[],
});
