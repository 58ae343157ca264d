import { defineQuery, defineStep } from '../operations/operation.js';
import { MAX_RENEWAL_MS } from '../leases/batched-renewal.js';
import type { KeySpace } from '../scripting/key-space.js';
import { IdempotencyRecordError, isHoldReason } from './idempotency.errors.js';
import { luaIndex, luaRecord } from './lua-record.js';
import type { RecordSummary, StepSummary } from './record-summary.js';
import { parseTrace, traceText, type RunTrace } from './run-trace.js';
import type { StepKeys } from './steps/step-keys.js';

const RECORD = { record: 'of the idempotency key' } as const;
const STEPS = { ...RECORD, steps: 'of its runs' } as const;
const ALL = { ...STEPS, index: 'of the slot' } as const;

/** For how long copies of a forgotten run's scripts may yet arrive, in milliseconds. */
const FORGOTTEN_MS = MAX_RENEWAL_MS;

/** `summary_of(record, keys)`: what operators see of a record. */
const luaSummary = `
local function summary_of(record, keys)
  local alive = math.max(0, record.alive_until - now_ms())
  local reason = record.kind == 'tombstone' and record.result or ''
  local found = {
    record.state, record.token, record.kind, reason, string.format('%.0f', #record.result),
    string.format('%.0f', redis.call('PTTL', keys.record)), string.format('%.0f', alive), record.trace,
  }
  if record.trace == '' then return found end
  local all = redis.call('HGETALL', keys.steps)
  for i = 1, #all, 2 do
    local kind, result_at = string.match(all[i + 1], '^done|([^|]*)|%d+|()')
    if all[i] ~= '' and string.sub(all[i + 1], 1, 7) ~= 'undone|' then
      found[#found + 1] = all[i]
      found[#found + 1] = kind or ''
      found[#found + 1] = string.format('%.0f', kind and #all[i + 1] - result_at + 1 or 0)
    end
  end
  return found
end
`;

const SUMMARY =
  "{state, token, kind of result or '', reason of a tombstone, bytes of result, ms it is kept, ms its run is taken to be alive, trace, per step: name, kind of result or '', its bytes}";

function summaryOf(found: readonly string[]): RecordSummary {
  const [state, token, kind, reason, resultBytes, ttlMs, aliveMs, trace, ...all] = found;
  const steps: StepSummary[] = [];
  for (let i = 0; i < all.length; i += 3) {
    const of = all[i + 1]!;
    const stepState = of === '' ? 'begun' : of === 'tombstone' ? 'not-kept' : 'done';
    steps.push({
      name: all[i]!,
      state: stepState,
      resultBytes: stepState === 'done' ? Number(all[i + 2]) : 0,
    });
  }
  return {
    state: state as RecordSummary['state'],
    token: token!,
    kind: kind!,
    reason: isHoldReason(reason!) ? reason : undefined,
    resultBytes: Number(resultBytes),
    ttlMs: Math.max(0, Number(ttlMs)),
    aliveMs: Number(aliveMs),
    trace: parseTrace(trace!),
    steps,
  };
}

/** Reads what a record holds; null when its key is free. */
export const inspect = defineQuery({
  type: 'idempotency.inspect',
  keys: STEPS,
  args: {},
  returns: `'' when the key is free | FOREIGN | ${SUMMARY}`,
  uses: [luaRecord, luaSummary],
  lua: `
local record = read_record(KEYS.record)
if record == 'FOREIGN' then return 'FOREIGN' end
if not record or record.state == 'released' then return '' end
return summary_of(record, { record = KEYS.record, steps = KEYS.steps })
`,
  reply: (raw) => raw as string | readonly string[],
  check: (record: string) => record,
  encode: (record, keys: KeySpace) => ({
    keys: { record, steps: keys.colocated('steps', record) },
    args: {},
  }),
  decode: (found): RecordSummary | null => {
    if (found === '') return null;
    if (typeof found === 'string') throw new IdempotencyRecordError();
    return summaryOf(found);
  },
});

/**
 * Deletes a record whose run has ended, if it is still that of the owner it was seen with. Its
 * result is false when it is something else by now.
 */
export const forget = defineStep({
  type: 'idempotency.forget',
  copies: 'one that comes late does nothing to the record of a later run',
  keys: ALL,
  args: {
    token: 'owner of the run that the record was seen to be of',
    trace: "with other keys for third parties; '' for the same",
    memoryMs: 'for which copies of its scripts may yet arrive, in ms',
  },
  returns: 'FORGOTTEN | OTHER',
  uses: [luaRecord],
  lua: `
local record = read_record(KEYS.record)
if not record then return 'FORGOTTEN' end
if record == 'FOREIGN' or record.token ~= ARGV.token or record.state == 'running' then return 'OTHER' end
if record.state == 'released' then return 'FORGOTTEN' end
if record.alive_until > now_ms() then return 'OTHER' end
redis.call('UNLINK', KEYS.steps)
redis.call('ZREM', KEYS.index, KEYS.record)
local trace = ARGV.trace
local retention, epoch, operation = string.match(record.trace, '^(%d+);%d+;%d;%d;[^;]*;([^;]+);(.*)$')
if trace == '' and epoch then trace = retention .. ';0;0;0;' .. record.token .. ';' .. epoch .. ';' .. operation end
-- A late copy of a renewal must not take a key that is free for one that vanished.
local ttl_ms = trace == '' and ARGV.memoryMs or string.match(trace, '^%d+')
redis.call('SET', KEYS.record, record_text('released', record.token, '', '', '', trace, ''), 'PX', ttl_ms)
return 'FORGOTTEN'
`,
  reply: (raw) => raw === 'FORGOTTEN',
  check: (call: { keys: StepKeys; token: string; trace: RunTrace | undefined }) => call,
  does: () => 'Forgetting an idempotency key',
  encode: ({ keys, token, trace }) => ({
    keys: { ...keys },
    args: { token, trace: trace ? traceText(trace) : '', memoryMs: FORGOTTEN_MS },
  }),
  decode: (isForgotten) => isForgotten,
  changed: (isForgotten) => isForgotten,
});

/**
 * Gives a key that waits for an operator its result. Its result is false when the record is
 * something else by now.
 */
export const settle = defineStep({
  type: 'idempotency.settle',
  copies: 'one that comes late finds the result, or another owner',
  keys: ALL,
  args: {
    token: 'owner of the run that the record was seen to be of',
    kind: 'how to read the result',
    ttlMs: 'how long the result is kept, in ms',
    result: 'bytes',
  },
  returns: 'SETTLED | OTHER',
  uses: [luaRecord],
  lua: `
local record = read_record(KEYS.record)
if not record or record == 'FOREIGN' or record.token ~= ARGV.token then return 'OTHER' end
if record.state == 'running' or record.state == 'released' or record.alive_until > now_ms() then return 'OTHER' end
if record.kind ~= '' and record.kind ~= 'tombstone' then
  return record.kind == ARGV.kind and record.result == ARGV.result and 'SETTLED' or 'OTHER'
end
redis.call('SET', KEYS.record, record_text('done', record.token, record.fingerprint, ARGV.kind, '', '', ARGV.result), 'PX', ARGV.ttlMs)
redis.call('UNLINK', KEYS.steps)
redis.call('ZREM', KEYS.index, KEYS.record)
signal_end(KEYS.record)
return 'SETTLED'
`,
  reply: (raw) => raw === 'SETTLED',
  check: (call: { keys: StepKeys; token: string; kind: string; ttlMs: number; result: string | Buffer }) =>
    call,
  does: () => 'Settling an idempotency key',
  encode: ({ keys, ...args }) => ({ keys: { ...keys }, args }),
  decode: (isSettled) => isSettled,
  changed: (isSettled) => isSettled,
});

/** A place in an index, between two pages. */
export interface IndexPlace {
  /**
   * The server's time in ms at the first page: what is put there later is not read. '' at the first
   * page.
   */
  readonly before: string;
  /** The summary of the last record that was read. */
  readonly score: string;
  readonly record: string;
}

/** Reads a page of an index, from the one put there longest ago. */
export const listIndex = defineQuery({
  type: 'idempotency.listHeld',
  keys: { index: 'of a slot' },
  args: {
    before: "server time in ms at the first page, or ''",
    score: 'of the last one read',
    record: 'the last one read',
    limit: 'records at the most',
  },
  returns: '{server time at the first page, record, score, …}',
  uses: [luaRecord],
  lua: `
-- Lua compares text by the server's locale, and Redis orders members by their bytes.
local function is_behind(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

local before_ms = ARGV.before ~= '' and ARGV.before or string.format('%.0f', now_ms())
local found = { before_ms }
local limit = 1 + 2 * tonumber(ARGV.limit)
local offset = 0
while true do
  local page = redis.call('ZRANGEBYSCORE', KEYS.index, ARGV.score, '(' .. before_ms, 'WITHSCORES', 'LIMIT', offset, 100)
  for i = 1, #page, 2 do
    local is_read = tonumber(page[i + 1]) == tonumber(ARGV.score) and not is_behind(page[i], ARGV.record)
    if not is_read then
      found[#found + 1] = page[i]
      found[#found + 1] = page[i + 1]
    end
    if #found >= limit then return found end
  end
  if #page < 200 then return found end
  offset = offset + 100
end
`,
  reply: (raw) => raw as readonly string[],
  check: (call: { index: string; place: IndexPlace; limit: number }) => call,
  encode: ({ index, place, limit }) => ({ keys: { index }, args: { ...place, limit } }),
  decode: (found) => found,
});

/**
 * Reads a record of an index, and may keep it for longer. One that waits for no operator any more
 * leaves the index; its result is null.
 */
export const visit = defineStep({
  type: 'idempotency.visitHeld',
  copies: 'one that comes late does the same again to the record as it is then',
  keys: ALL,
  args: {
    notAfterMs: 'server time in ms past which nothing is written',
    heldMs: 'how long it is kept from now, in ms; 0 to leave that as it is',
  },
  returns: `'' | TOO_LATE | ${SUMMARY}`,
  uses: [luaRecord, luaIndex, luaSummary],
  lua: `
local record = read_record(KEYS.record)
if record == 'FOREIGN' then return '' end
local is_held = record and record.state == 'done' and record.kind == 'tombstone'
local goes_on = record and (record.state == 'lasting' or record.state == 'failed')
local now = now_ms()
if goes_on and record.alive_until > now then return '' end
if now > tonumber(ARGV.notAfterMs) then return 'TOO_LATE' end
if not is_held and not goes_on then
  if not record or record.state ~= 'running' then redis.call('ZREM', KEYS.index, KEYS.record) end
  return ''
end
local held_ms = tonumber(ARGV.heldMs)
if held_ms > 0 then
  if redis.call('PTTL', KEYS.record) < held_ms then redis.call('PEXPIRE', KEYS.record, ARGV.heldMs) end
  if redis.call('PTTL', KEYS.steps) < held_ms then redis.call('PEXPIRE', KEYS.steps, ARGV.heldMs) end
  -- An entry that moves is behind the end of every listing that has begun. So it moves only where it
  -- could leave the index before its record expires.
  local put_at = tonumber(redis.call('ZSCORE', KEYS.index, KEYS.record) or 0)
  if held_ms < 2 * (now - put_at) then index_record(KEYS.index, KEYS.record, 2 * held_ms, now) end
end
return summary_of(record, { record = KEYS.record, steps = KEYS.steps })
`,
  reply: (raw) => raw as string | readonly string[],
  check: (call: { keys: StepKeys; heldMs: number }) => call,
  does: () => 'Reading held keys',
  encode: ({ keys, heldMs }) => ({ keys: { ...keys }, args: { heldMs } }),
  decode: (found): RecordSummary | null => (typeof found === 'string' ? null : summaryOf(found)),
});
