import { defineScript } from '../scripting/script.js';

export type Resolution = 'applied' | 'not-applied' | 'unknown';

/**
 * Resolves the outcome of an EXEC whose reply was lost, once and for all: after it, that EXEC
 * either has committed or never will. Only reading the marker would not do: EXEC may still be on
 * its way. PEXPIRE touches the watched key, which aborts it; unlike SET it also works when memory
 * is full. Run again, it comes to the same.
 *
 * Some servers run the commands behind a refused one. There, an EXEC sets a second key ahead of its
 * commands: only both keys prove that all commands ran.
 */
export const resolveScript = defineScript({
  name: 'transactions.resolve',
  keys: ['marker', 'beginning'],
  args: ['attempt', 'ttlMs'],
  lua: `
-- KEYS[1] marker     of the connection that sent EXEC
-- KEYS[2] beginning  likewise, set ahead of the commands; the marker again where there is none
-- ARGV[1] attempt    value that its EXEC sets
-- ARGV[2] ttlMs      time to live of the marker from now on, in ms
-- returns APPLIED | NOT_APPLIED | UNKNOWN
local value = redis.call('GET', KEYS[1])
local has_begun = redis.call('GET', KEYS[2]) == ARGV[1]
if value == ARGV[1] and has_begun then return 'APPLIED' end
if value == ARGV[1] or has_begun or value == 'lost' then return 'UNKNOWN' end
if not value then
  redis.call('SET', KEYS[1], 'lost', 'PX', ARGV[2])
  return 'UNKNOWN'
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'NOT_APPLIED'
`,
  reply: (raw): Resolution => {
    if (raw === 'APPLIED') return 'applied';
    return raw === 'NOT_APPLIED' ? 'not-applied' : 'unknown';
  },
});
