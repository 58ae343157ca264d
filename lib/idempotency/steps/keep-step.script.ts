import { defineScript } from '../../scripting/script.js';
import { luaSteps } from './lua-steps.js';

/**
 * The fate of a run's step: `kept`; `lease-lost` if another run has the record, or nobody's lease
 * holds it; `ended` if the run was committed or is over.
 */
export type StepKeeping = 'kept' | 'lease-lost' | 'ended';

/**
 * Keeps that a step began, or its result, while the run has its record. Sent again, it does the
 * same again.
 */
export const keepStepScript = defineScript({
  name: 'idempotency.keepStep',
  keys: ['record', 'steps', 'index'],
  args: [
    'notAfterMs',
    'token',
    'fingerprint',
    'trace',
    'leaseMs',
    'keepMs',
    'hasSteps',
    'step',
    'mark',
    'kind',
    'ttlMs',
    'result',
  ],
  lua: `
-- KEYS[1] record
-- KEYS[2] steps   of the record's runs
-- KEYS[3] index   of the slot
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] token        owner of the run
-- ARGV[3] fingerprint  of caller and payload
-- ARGV[4] trace        of the run, with steps
-- ARGV[5] leaseMs      time to live of a record that vanished, in ms; 0 if the run counts on its lease no more
-- ARGV[6] keepMs       time to live of the steps, from now, in ms
-- ARGV[7] hasSteps     1 if something of the steps is surely kept, so that what is not there was lost; else 0
-- ARGV[8] step         its name
-- ARGV[9] mark         names this begin: <token>.<number>; '' for a step that has a result
-- ARGV[10] kind        how to read the result
-- ARGV[11] ttlMs       for how long the result counts, in ms; 0 for always
-- ARGV[12] result      bytes
-- returns kept | lease-lost | ended | TOO_LATE
${luaSteps}
local record = read_record(KEYS[1])
local refusal = may_change(record, ARGV[2])
if refusal then return refusal end
local now = now_ms()
if now > tonumber(ARGV[1]) then return 'TOO_LATE' end
local lease_ms = tonumber(ARGV[5])
if not record and lease_ms == 0 then return 'lease-lost' end
local begins = ARGV[9] ~= ''
-- What begins after its lease may run beside a successor. What has ended is told to it.
if begins and record and record.state == 'lasting' and record.alive_until <= now then return 'lease-lost' end
local keys = { record = KEYS[1], steps = KEYS[2], index = KEYS[3] }
local run = {
  token = ARGV[2], fingerprint = ARGV[3], trace = ARGV[4], lease_ms = lease_ms, keep_ms = tonumber(ARGV[6]),
  has_steps = ARGV[7] == '1',
}
local failed = open_steps(keys, record, run, now)
if failed then return failed end
if not begins then
  local ttl_ms = tonumber(ARGV[11])
  local counts_until = ttl_ms == 0 and '0' or string.format('%.0f', now + ttl_ms)
  redis.call('HSET', KEYS[2], ARGV[8], 'done|' .. ARGV[10] .. '|' .. counts_until .. '|' .. ARGV[12])
  return 'kept'
end
-- A copy of a begin may come after the end of its step, or after it was taken back.
local known = redis.call('HGET', KEYS[2], ARGV[8])
local counts_until = known and string.match(known, '^done|[^|]*|(%d+)|')
local counts = counts_until and (counts_until == '0' or tonumber(counts_until) > now)
if not counts and not is_past(known, ARGV[9]) then redis.call('HSET', KEYS[2], ARGV[8], 'begun|' .. ARGV[9]) end
return 'kept'
`,
  reply: (raw) => raw as StepKeeping,
});
