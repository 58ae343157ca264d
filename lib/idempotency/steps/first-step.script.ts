import { luaTime } from '../../scripting/lua.js';
import { defineScript } from '../../scripting/script.js';
import { luaIndex } from '../lua-record.js';
import type { StepKeeping } from './keep-step.script.js';

/**
 * The arguments of the two scripts that keep the result of nearly every step: all is as the claim
 * has left it, or as the step before has. Where it is not, they change nothing and answer OTHER,
 * and the script of `keep-step.script.ts` decides. A record is `<head><alive until><tail>`.
 */
export const USUAL_STEP_ARGS = ['notAfterMs', 'head', 'tail', 'lineage', 'step', 'entry'] as const;

/** The head of their Lua. */
export const usualStepHead = `
-- KEYS[1] record
-- KEYS[2] steps        of the record's runs
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] head         of the run's record once it has steps, up to its time
-- ARGV[3] tail         the rest of it, behind its time
-- ARGV[4] lineage      of the run
-- ARGV[5] step         its name
-- ARGV[6] entry        done|<kind>|0|<result>
-- returns kept | OTHER | TOO_LATE`;

/** Keeps the result of the first step of all. */
export const firstStepScript = defineScript({
  name: 'idempotency.firstStep',
  keys: ['record', 'steps', 'index'],
  args: [...USUAL_STEP_ARGS, 'retentionMs', 'keepMs'],
  lua: `${usualStepHead}
-- KEYS[3] index        of the slot
-- ARGV[7] retentionMs  for which the record outlives the lease, in ms
-- ARGV[8] keepMs       time to live of the steps, from now, in ms
if redis.pcall('GET', KEYS[1]) ~= '1|running|' .. string.sub(ARGV[2], #'1|lasting|' + 1) .. '||' then return 'OTHER' end
if redis.call('EXISTS', KEYS[2]) == 1 then return 'OTHER' end
local lease_ms = redis.call('PTTL', KEYS[1])
if lease_ms < 1 then return 'OTHER' end
${luaTime}
if time_ms > tonumber(ARGV[1]) then return 'TOO_LATE' end
${luaIndex}
local text = ARGV[2] .. string.format('%.0f', time_ms + lease_ms) .. ARGV[3]
redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', lease_ms + ARGV[7]))
redis.call('HSET', KEYS[2], '', ARGV[4], ARGV[5], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[8])
index_record(KEYS[3], KEYS[1], tonumber(ARGV[8]), time_ms)
return 'kept'
`,
  reply: (raw) => raw as StepKeeping | 'OTHER',
});
