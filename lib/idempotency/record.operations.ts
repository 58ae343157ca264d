import { defineQuery, defineStep } from '../operations/operation.js';
import { IdempotencyRecordError } from './idempotency.errors.js';
import { luaRecord } from './lua-record.js';
import type { RecordSummary } from './record-summary.js';

const RECORD = { record: 'of the idempotency key' } as const;

/** Reads what a record holds; null when its key is free. */
export const inspect = defineQuery({
  type: 'idempotency.inspect',
  keys: RECORD,
  args: {},
  returns:
    "'' when the key is free | FOREIGN | {state, token, kind of result or '', its bytes, ms it is kept, ms its run is taken to be alive}",
  uses: [luaRecord],
  lua: `
local record = read_record(KEYS.record)
if record == 'FOREIGN' then return 'FOREIGN' end
if not record or record.state == 'released' then return '' end
local alive = math.max(0, record.alive_until - now_ms())
return {
  record.state, record.token, record.kind, string.format('%.0f', #record.result),
  string.format('%.0f', redis.call('PTTL', KEYS.record)), string.format('%.0f', alive),
}
`,
  reply: (raw) => raw as string | readonly [string, string, string, string, string, string],
  check: (record: string) => record,
  encode: (record) => ({ keys: { record }, args: {} }),
  decode: (found): RecordSummary | null => {
    if (found === '') return null;
    if (typeof found === 'string') throw new IdempotencyRecordError();
    const [state, token, kind, resultBytes, ttlMs, aliveMs] = found;
    return {
      state: state as RecordSummary['state'],
      token,
      kind,
      resultBytes: Number(resultBytes),
      ttlMs: Math.max(0, Number(ttlMs)),
      aliveMs: Number(aliveMs),
    };
  },
});

/** Deletes a record whose run has ended, if it is still that of the owner it was seen with. Its result is false when it is something else by now. */
export const forget = defineStep({
  type: 'idempotency.forget',
  copies: 'one that comes late does nothing to the record of a later run',
  keys: RECORD,
  args: { token: 'owner of the run that the record was seen to be of' },
  returns: 'FORGOTTEN | OTHER',
  uses: [luaRecord],
  lua: `
local record = read_record(KEYS.record)
if not record then return 'FORGOTTEN' end
if record == 'FOREIGN' or record.token ~= ARGV.token or record.state == 'running' then return 'OTHER' end
redis.call('DEL', KEYS.record)
return 'FORGOTTEN'
`,
  reply: (raw) => raw === 'FORGOTTEN',
  check: (call: { record: string; token: string }) => call,
  does: () => 'Forgetting an idempotency key',
  encode: ({ record, token }) => ({ keys: { record }, args: { token } }),
  decode: (isForgotten) => isForgotten,
  changed: (isForgotten) => isForgotten,
});
