import { defineScript } from '../redis/script.js';
import { luaRecord } from './lua-record.js';

/** Deletes a record whose run has ended, if it is still that of the owner it was seen with. A late copy does nothing to a later run's. */
export const forgetScript = defineScript({
  name: 'idempotency.forget',
  keys: ['record'],
  args: ['token'],
  lua: `
-- KEYS[1] record
-- ARGV[1] token  owner of the run that the record was seen to be of
-- returns FORGOTTEN | OTHER
${luaRecord}
local record = read_record(KEYS[1])
if not record then return 'FORGOTTEN' end
if record == 'FOREIGN' or record.token ~= ARGV[1] or record.state == 'running' then return 'OTHER' end
redis.call('DEL', KEYS[1])
return 'FORGOTTEN'
`,
  reply: (raw): boolean => raw === 'FORGOTTEN',
});
