import { defineScript } from '../redis/script.js';
import { luaRecord } from './lua-record.js';

/** Gives the key back without a result, if the run still has it: the next call with it runs. */
export const releaseScript = defineScript({
  name: 'idempotency.release',
  keys: ['record'],
  args: ['token'],
  lua: `
-- KEYS[1] record
-- ARGV[1] token  owner of the run
-- returns RELEASED | STALE
${luaRecord}
local record = read_record(KEYS[1])
if not record then return 'RELEASED' end
if record == 'FOREIGN' or record.token ~= ARGV[1] or record.state ~= 'running' then return 'STALE' end
redis.call('DEL', KEYS[1])
return 'RELEASED'
`,
  reply: (raw): boolean => raw === 'RELEASED',
});
