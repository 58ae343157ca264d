import { defineScript } from '../redis/script.js';
import { luaRecord } from './lua-record.js';

/** What is known of a record without reading its result. */
export interface RecordSummary {
  readonly state: 'running' | 'committed' | 'done';
  readonly token: string;
  readonly kind: string;
  readonly resultBytes: number;
  readonly ttlMs: number;
  /** Of a committed record whose run goes on. */
  readonly aliveMs: number;
}

/** Reads what a record holds. */
export const inspectScript = defineScript({
  name: 'idempotency.inspect',
  keys: ['record'],
  args: [],
  readOnly: true,
  lua: `
-- KEYS[1] record
-- returns '' when the key is free | FOREIGN | {state, token, kind of result or '', its bytes, ms it is kept, ms its run is taken to be alive}
${luaRecord}
local record = read_record(KEYS[1])
if record == 'FOREIGN' then return 'FOREIGN' end
if not record or record.state == 'released' then return '' end
local alive = math.max(0, record.alive_until - now_ms())
return {
  record.state, record.token, record.kind, string.format('%.0f', #record.result),
  string.format('%.0f', redis.call('PTTL', KEYS[1])), string.format('%.0f', alive),
}
`,
  reply: (raw): RecordSummary | 'foreign' | null => {
    if (raw === '') return null;
    if (raw === 'FOREIGN') return 'foreign';
    const [state, token, kind, resultBytes, ttlMs, aliveMs] = raw as [
      string,
      string,
      string,
      string,
      string,
      string,
    ];
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
