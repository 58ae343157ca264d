import { defineScript } from '../../scripting/script.js';
import { luaTime } from '../../scripting/lua.js';
import { luaIndex, luaOwnerOf, luaRecord } from '../lua-record.js';

/**
 * The fate of a run's step: `kept`; `lease-lost` if another run has the record, or no lease holds
 * it; `ended` if the run was committed or is over.
 */
export type StepKeeping = 'kept' | 'lease-lost' | 'ended';

/**
 * Keeps that a step began, or its result, while the run has its record. Sent again, it does the
 * same again.
 *
 * The steps of a run are one hash: a field for each step, and the field '' with the lineage of the
 * runs that they belong to, or `lost <lineage>` if Redis has lost some of them: no attempt may
 * continue with the rest. A step is `begun|<token>.<number>`, which names the begin, or
 * `done|<kind>|<server time in ms until which it counts, or 0>|<result>`. It is `undone|<mark>`
 * after that begin was taken back, which counts as no entry.
 */
export const keepStepScript = defineScript({
  name: 'idempotency.keepStep',
  keys: ['record', 'steps', 'index'],
  args: ['notAfterMs', 'running', 'trace', 'leaseMs', 'keepMs', 'known', 'step', 'entry'],
  lua: `
-- KEYS[1] record
-- KEYS[2] steps   of the record's runs
-- KEYS[3] index   of the slot
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] running      the record of the run as its claim left it, with its token and fingerprint
-- ARGV[3] trace        of the run, with steps
-- ARGV[4] leaseMs      time to live of a record that vanished, in ms; 0 if the run counts on its lease no more
-- ARGV[5] keepMs       time to live of the steps, from now, in ms
-- ARGV[6] known        '' before the first step of all, or 'kept' if something of the steps is surely kept, so that what is not there was lost
-- ARGV[7] step         its name
-- ARGV[8] entry        begun|<mark>, where the mark names this begin, <token>.<number>; done|<kind>|<ms for which it counts, 0 for always>|<result>
-- returns kept | lease-lost | ended | TOO_LATE
${luaRecord}${luaIndex}${luaTime}
local now, keep_ms, lease_ms = time_ms, tonumber(ARGV[5]), tonumber(ARGV[4])
local record = read_record(KEYS[1])
${luaOwnerOf('ARGV[2]')}
if record then
  if record == 'FOREIGN' or record.token ~= token then return 'lease-lost' end
  if record.state == 'committed' or record.state == 'done' then return 'ended' end
  if record.state ~= 'running' and record.state ~= 'lasting' then return 'lease-lost' end
end
if now > tonumber(ARGV[1]) then return 'TOO_LATE' end
if not record and lease_ms == 0 then return 'lease-lost' end
local entry, counts_ms = ARGV[8], string.match(ARGV[8], '^done|[^|]*|(%d+)|')
-- What begins after its lease may run beside a successor. What has ended is told to it.
if not counts_ms and record and record.state == 'lasting' and record.alive_until <= now then return 'lease-lost' end
if counts_ms and counts_ms ~= '0' then
  local head, rest = string.match(entry, '^(done|[^|]*|)%d+(|.*)$')
  entry = head .. string.format('%.0f', now + tonumber(counts_ms)) .. rest
end

-- The record becomes one that outlives its lease.
if not record or record.state == 'running' or record.trace ~= ARGV[3] then
  if record and record.state == 'lasting' then
    lease_ms = record.alive_until - now
  elseif record then
    local ttl = redis.call('PTTL', KEYS[1])
    if ttl > 0 then lease_ms = ttl end
  end
  local written = write_lasting(KEYS[1], token, fingerprint, ARGV[3], now, math.max(1, lease_ms))
  if written.err then return written end
end

-- The hash becomes one of this lineage. A later attempt must not take what is kept from now on for all that there was.
local lineage = string.match(ARGV[3], '^%d+;%d+;%d;%d;([^;]*);')
local found, lost = redis.call('HGET', KEYS[2], ''), 'lost ' .. lineage
local is_new = found ~= lineage and found ~= lost
if is_new then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '', ARGV[6] == '' and lineage or lost)
end
-- Both outlive the record by far, so that few steps prolong them.
if is_new or redis.call('PTTL', KEYS[2]) < keep_ms - retention_of(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[2], string.format('%.0f', keep_ms))
  index_record(KEYS[3], KEYS[1], keep_ms, now)
end

if not counts_ms then
  -- A copy of a begin may come after the end of its step, or after a later begin of the run or this one was taken back.
  local known = redis.call('HGET', KEYS[2], ARGV[7]) or ''
  local counts_until = string.match(known, '^done|[^|]*|(%d+)|')
  if counts_until and (counts_until == '0' or tonumber(counts_until) > now) then return 'kept' end
  local by, last = string.match(known, '^%l+|([^|]*)%.(%d+)$')
  local own, number = string.match(entry, '^begun|(.*)%.(%d+)$')
  if own and by == own and tonumber(last) >= tonumber(number) then return 'kept' end
end
redis.call('HSET', KEYS[2], ARGV[7], entry)
return 'kept'
`,
  reply: (raw) => raw as StepKeeping,
});
