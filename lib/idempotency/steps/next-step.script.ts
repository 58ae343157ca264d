import { luaTime } from '../../scripting/lua.js';
import { defineScript } from '../../scripting/script.js';
import { USUAL_STEP_ARGS, usualStepHead } from './first-step.script.js';
import type { StepKeeping } from './keep-step.script.js';

/** Keeps the result of a later step. */
export const nextStepScript = defineScript({
  name: 'idempotency.nextStep',
  keys: ['record', 'steps'],
  args: USUAL_STEP_ARGS,
  lua: `${usualStepHead}
local text = redis.pcall('GET', KEYS[1])
if type(text) ~= 'string' or string.sub(text, 1, #ARGV[2]) ~= ARGV[2] or string.sub(text, -#ARGV[3]) ~= ARGV[3] then return 'OTHER' end
if redis.call('HGET', KEYS[2], '') ~= ARGV[4] then return 'OTHER' end
${luaTime}
if time_ms > tonumber(ARGV[1]) then return 'TOO_LATE' end
redis.call('HSET', KEYS[2], ARGV[5], ARGV[6])
return 'kept'
`,
  reply: (raw) => raw as StepKeeping | 'OTHER',
});
