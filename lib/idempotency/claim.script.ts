import { luaNow } from '../scripting/lua.js';
import { defineScript } from '../scripting/script.js';
import { luaOwnerOf, luaRecord, luaRecordsAtOnce } from './lua-record.js';
import { parseTrace, type RunTrace } from './run-trace.js';

export type ClaimReply =
  | { readonly kind: 'caller' | 'mismatch' | 'foreign' }
  /** The trace exists if the run continues the work of another, or outlives its lease. */
  | { readonly kind: 'claimed'; readonly trace?: RunTrace }
  | { readonly kind: 'running'; readonly leaseLeftMs: number }
  | {
      readonly kind: 'done';
      readonly fingerprint: string;
      readonly resultKind: string;
      readonly result: Buffer;
      /** The time for which it is still kept, in milliseconds; 0 where that was not asked for. */
      readonly ttlMs: number;
    };

/**
 * Longer than what stands in front of a result, unless its record tells of a run's steps. Only so
 * much is read: a result may be long and need not be text.
 */
const HEAD_BYTES = 160;

/** The fields in front of a result, each with a bar behind it. */
const HEAD_FIELDS = 7;

/** The first byte of a record, and of no other answer. */
const VERSION = '1'.charCodeAt(0);

/** A record that an operator made persistent has no expiry: the caller asks again in a while. */
const leaseLeft = (ttlMs: number): number => (ttlMs < 0 ? 1_000 : ttlMs);

const CLAIMED: ClaimReply = { kind: 'claimed' };

/** Lua that answers with a record that has a result. Whose it is, the caller sees. */
const RESULT = `
  if ARGV[4] == '' then return text end
  return {text, string.format('%.0f', redis.call('PTTL', KEYS[1]))}
`;

/**
 * The two scripts differ in what they write.
 * @param begin Lua that writes the record of a first run, where the record is `text`
 * @param goesOn Lua that follows the write of a run that continues the work of another
 */
export const claimLua = (begin: string, goesOn = ''): string => `
local text = text_of(KEYS[1])
if not text then
  if now_ms() > tonumber(ARGV[1]) then return 'TOO_LATE' end
${begin}
end
if string.sub(text, 1, 7) == '1|done|' then ${RESULT} end
${luaRecord}
local record = parse_record(text)
if record == 'FOREIGN' then return 'FOREIGN' end
${luaOwnerOf('ARGV[2]')}
local is_free = record.state == 'released'
if record.token == token then
  -- Nobody waits for the answer to a claim that was given back.
  if is_free or record.state == 'failed' then return 'TOO_LATE' end
  return record.trace == '' and 'CLAIMED' or 'CLAIMED|' .. record.trace
end
local now = now_ms()
if not is_free then
  if record.fingerprint ~= fingerprint then
    -- The caller before the payload: a stranger learns nothing of it.
    local is_same_caller = string.match(record.fingerprint, '^[^:]*') == string.match(fingerprint, '^[^:]*')
    return is_same_caller and 'MISMATCH' or 'CALLER'
  end
  if record.state == 'running' then return 'RUNNING|' .. string.format('%.0f', redis.call('PTTL', KEYS[1])) end
  local alive_ms = record.alive_until - now
  if alive_ms > 0 then return 'RUNNING|' .. string.format('%.0f', alive_ms) end
  if record.state == 'committed' then ${RESULT} end
end
if now > tonumber(ARGV[1]) then return 'TOO_LATE' end
if record.trace ~= '' then
  local retention, attempt, abandoned, rest = string.match(record.trace, '^(%d+);(%d+);(%d);(.*)$')
  if record.state == 'lasting' then abandoned = '1' end
  local trace = retention .. ';' .. string.format('%.0f', attempt + 1) .. ';' .. abandoned .. ';' .. rest
  local written = write_lasting(KEYS[1], token, fingerprint, trace, now, tonumber(ARGV[3]))
  if written.err then return written end
${goesOn}
  return 'CLAIMED|' .. trace
end
${begin}
`;

export function readClaim(raw: unknown): ClaimReply {
  const [answer, ttl] = (Array.isArray(raw) ? raw : [raw]) as [Buffer, Buffer?];
  if (answer[0] === VERSION) return readResult(answer, Number(ttl ?? 0));
  const [kind, second] = answer.toString().split('|', 2);
  switch (kind) {
    case 'CLAIMED': {
      const trace = second === undefined ? undefined : parseTrace(answer.toString().slice('CLAIMED|'.length));
      return trace ? { kind: 'claimed', trace } : CLAIMED;
    }
    case 'RUNNING':
      return { kind: 'running', leaseLeftMs: leaseLeft(Number(second)) };
    case 'CALLER':
      return { kind: 'caller' };
    case 'MISMATCH':
      return { kind: 'mismatch' };
    default:
      return { kind: 'foreign' };
  }
}

/** Reads a record that has a result. Mostly a look at its head is enough. */
function readResult(record: Buffer, ttlMs: number, headBytes = HEAD_BYTES): ClaimReply {
  const head = record.toString('latin1', 0, headBytes);
  const bars: number[] = [];
  for (let at = head.indexOf('|'); at !== -1 && bars.length < HEAD_FIELDS; at = head.indexOf('|', at + 1))
    bars.push(at);
  const [, , tokenEnd, fingerprintEnd, kindEnd, , headEnd] = bars;
  if (headEnd === undefined && headBytes < record.length) return readResult(record, ttlMs, record.length);
  if (headEnd === undefined || kindEnd === fingerprintEnd! + 1) return { kind: 'foreign' };
  return {
    kind: 'done',
    fingerprint: head.slice(tokenEnd! + 1, fingerprintEnd),
    resultKind: head.slice(fingerprintEnd! + 1, kindEnd),
    result: record.subarray(headEnd + 1),
    ttlMs,
  };
}

/**
 * Takes the key for a run, or returns its present record. Sent again, it recognises its own token.
 */
export const claimScript = defineScript({
  name: 'idempotency.claim',
  keys: ['record'],
  args: ['notAfterMs', 'running', 'leaseMs', 'wantsTtl'],
  binary: true,
  opening: luaRecordsAtOnce() + luaNow,
  lua: `
-- KEYS[1] record
-- ARGV[1] notAfterMs   server time in ms past which nothing is written
-- ARGV[2] running      the record of the run, with its token and fingerprint
-- ARGV[3] leaseMs      time to live of the claim in ms
-- ARGV[4] wantsTtl     '1' for the time that a result is still kept, or ''
-- returns CLAIMED | CLAIMED|<trace> | RUNNING|<ms left of the lease> | <record with a result> | {<record with a result>, <ms it is kept>} | CALLER | MISMATCH | FOREIGN | TOO_LATE
${claimLua(`
  local written = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3], text and 'XX' or 'NX')
  -- Something that is no text is there.
  if not written then return 'FOREIGN' end
  if written.err then return written end
  return 'CLAIMED'
`)}`,
  reply: readClaim,
});
