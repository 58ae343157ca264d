import { defineScript } from '../redis/script.js';
import { luaRecord } from './lua-record.js';

/** `kept`: a transaction has committed the run, so its key is not given back. */
export type Release = 'released' | 'kept' | 'stale';

/** Gives the key back without a result, if the run still has it: the next call with it runs. */
export const releaseScript = defineScript({
  name: 'idempotency.release',
  keys: ['record'],
  args: ['token'],
  lua: `
-- KEYS[1] record
-- ARGV[1] token  owner of the run
-- returns released | kept | stale
${luaRecord}
local record = read_record(KEYS[1])
if not record then return 'released' end
if record == 'FOREIGN' or record.token ~= ARGV[1] or record.state == 'done' then return 'stale' end
local answer = 'released'
if record.state == 'committed' then
  redis.call('HDEL', KEYS[1], 'u')
  answer = 'kept'
else
  redis.call('DEL', KEYS[1])
end
signal_end(KEYS[1])
return answer
`,
  reply: (raw) => raw as Release,
});
