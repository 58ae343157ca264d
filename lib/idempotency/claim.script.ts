import { defineScript } from '../scripting/script.js';
import { luaRecord } from './lua-record.js';
import { parseTrace, type RunTrace } from './run-trace.js';

export type ClaimReply =
  | { readonly kind: 'caller' | 'mismatch' | 'foreign' }
  /** The trace is there where the run goes on with the work of another, or outlives its lease. */
  | { readonly kind: 'claimed'; readonly trace?: RunTrace }
  | { readonly kind: 'running'; readonly leaseLeftMs: number }
  | {
      readonly kind: 'done';
      readonly resultKind: string;
      readonly result: Buffer;
      /** The time for which it is still kept, in milliseconds. */
      readonly ttlMs: number;
    };

/** Longer than anything in front of a result: kinds are words, and times have 19 digits at most. */
const HEAD_BYTES = 128;

/** A record that an operator made persistent has no expiry: the caller asks again in a while. */
const leaseLeft = (ttlMs: number): number => (ttlMs < 0 ? 1_000 : ttlMs);

const CLAIMED: ClaimReply = { kind: 'claimed' };

/**
 * The two scripts differ in what they write.
 * @param begin Lua that writes the record of a first run
 * @param goesOn Lua that follows the write of a run that goes on with the work of another
 */
export const claimLua = (begin: string, goesOn = ''): string => `
${luaRecord}
local record = read_record(KEYS[1])
if record == 'FOREIGN' then return 'FOREIGN' end
local goes_on = false
if record then
  local is_own = record.token == ARGV[2]
  -- Nobody waits for the answer to a claim that was given back.
  if is_own and (record.state == 'released' or record.state == 'failed') then return 'TOO_LATE' end
  if is_own then return record.trace == '' and 'CLAIMED' or 'CLAIMED|' .. record.trace end
end
if record and record.state ~= 'released' then
  if record.fingerprint ~= ARGV[3] then
    -- The caller before the payload: a stranger learns nothing of it.
    local is_same_caller = string.match(record.fingerprint, '^[^:]*') == string.match(ARGV[3], '^[^:]*')
    return is_same_caller and 'MISMATCH' or 'CALLER'
  end
  goes_on = record.state == 'lasting' or record.state == 'failed'
  if record.state == 'committed' or record.state == 'lasting' then
    local alive_ms = record.alive_until - now_ms()
    if alive_ms > 0 then return 'RUNNING|' .. string.format('%.0f', alive_ms) end
  end
  if not goes_on then
    local ttl = redis.call('PTTL', KEYS[1])
    if record.state == 'running' then return 'RUNNING|' .. string.format('%.0f', ttl) end
    return 'DONE|' .. record.kind .. '|' .. string.format('%.0f', ttl) .. '|' .. record.result
  end
end
local now = now_ms()
if now > tonumber(ARGV[1]) then return 'TOO_LATE' end
if record and record.trace ~= '' then
  local retention, attempt, abandoned, rest = string.match(record.trace, '^(%d+);(%d+);(%d);(.*)$')
  if record.state == 'lasting' then abandoned = '1' end
  local trace = retention .. ';' .. string.format('%.0f', attempt + 1) .. ';' .. abandoned .. ';' .. rest
  local written = write_lasting(KEYS[1], ARGV[2], ARGV[3], trace, now, tonumber(ARGV[4]))
  if written.err then return written end
${goesOn}
  return 'CLAIMED|' .. trace
end
${begin}
`;

export function readClaim(raw: unknown): ClaimReply {
  const answer = raw as Buffer;
  // Reads only the head: a result may be long and need not be text.
  const [kind, second, third] = answer.toString('latin1', 0, HEAD_BYTES).split('|', 3);
  switch (kind) {
    case 'CLAIMED': {
      const trace = second === undefined ? undefined : parseTrace(answer.toString().slice('CLAIMED|'.length));
      return trace ? { kind: 'claimed', trace } : CLAIMED;
    }
    case 'RUNNING':
      return { kind: 'running', leaseLeftMs: leaseLeft(Number(second)) };
    case 'DONE': {
      const resultAt = `DONE|${second}|${third}|`.length;
      return {
        kind: 'done',
        resultKind: second!,
        result: answer.subarray(resultAt),
        ttlMs: Number(third),
      };
    }
    case 'CALLER':
      return { kind: 'caller' };
    case 'MISMATCH':
      return { kind: 'mismatch' };
    default:
      return { kind: 'foreign' };
  }
}

/** Takes the key for a run, or tells what is there. Sent again, it recognises its own token. */
export const claimScript = defineScript({
  name: 'idempotency.claim',
  keys: ['record'],
  args: ['notAfterMs', 'token', 'fingerprint', 'leaseMs'],
  binary: true,
  lua: `
-- KEYS[1] record
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] token        owner of the run
-- ARGV[3] fingerprint  of caller and payload: <evidence>:<payload>
-- ARGV[4] leaseMs      time to live of the claim in ms
-- returns CLAIMED | CLAIMED|<trace> | RUNNING|<ms left of the lease> | DONE|<kind>|<ms it is kept>|<result> | CALLER | MISMATCH | FOREIGN | TOO_LATE
${claimLua(`
local written = write_state(KEYS[1], 'running', ARGV[2], ARGV[3], ARGV[4])
if written.err then return written end
return 'CLAIMED'
`)}`,
  reply: readClaim,
});
