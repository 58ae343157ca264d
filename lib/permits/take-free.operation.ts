import { describe } from '../atomic-redis.errors.js';
import { defineStep } from '../operations/operation.js';
import { luaTime } from '../scripting/lua.js';
import { KEPT_AGAIN_US, KEPT_FOR_MS } from './lua-permit.js';
import { LINE_KEYS, type Claim } from './permit.operations.js';

/** The time by which a note of a call that was sent again outlives its time limit, in ms. */
const COPIES_KEPT_MS = 60_000;

interface TakeFree {
  readonly claim: Claim;
  readonly leaseMs: number;
}

/** The result of {@link takeFree}. */
type Taken =
  | { readonly kind: 'granted'; readonly slot: 0; readonly fence: number }
  | { readonly kind: 'held'; readonly nextMs: number }
  | { readonly kind: 'look' };

/**
 * Takes the permit of a name that has one, if it was released when nothing waited. Nothing does
 * before it is held again. It knows no line, so that it is short: nearly all calls are this one.
 *
 * A call that is sent again takes nothing, and neither does one that arrives behind it: its caller
 * looks.
 */
export const takeFree = defineStep({
  type: 'permits.takeFree',
  copies:
    'the first that says that it was sent again notes the token, after which nothing is taken for it; it says so ahead of any release',
  keys: { state: LINE_KEYS.state, slot: 'the token of the holder' },
  args: {
    notAfterMs: 'time limit, milliseconds of Redis’s clock',
    keepMarker: "'1' where it was sent before, else ''",
    token: 'of the caller, never used before',
    leaseMs: 'length of its lease',
  },
  returns: 'TOO_LATE | <fence> | held:<ms to the end of the lease> | look, where this cannot tell',
  lua: `
local holder = redis.call('GET', KEYS.slot)
local mark = string.sub(holder or '', 1, 1)
if ARGV.keepMarker == '' and holder and mark ~= '.' and mark ~= ',' and holder ~= ARGV.token then
  return 'held:' .. string.format('%.0f', math.max(0, redis.call('PTTL', KEYS.slot)))
end
local known = redis.call('HMGET', KEYS.state, 'f0', 'c' .. ARGV.token)
local last, copied = known[1], known[2]
${luaTime}
if time_ms > tonumber(ARGV.notAfterMs) then return 'TOO_LATE' end
if copied then return 'look' end
if ARGV.keepMarker ~= '' then
  local from, to = string.match(redis.call('HGET', KEYS.state, 'c') or '0:0', '(%d+):(%d+)')
  from, to = tonumber(from), tonumber(to)
  local notes, over = {}, {}
  local function note(text)
    notes[#notes + 1] = string.format('o%.0f', to)
    notes[#notes + 1] = text
    to = to + 1
  end
  -- The two oldest are looked at for each that is new: they end, or go to the end of the row.
  for at = from, math.min(from + 1, to - 1) do
    local field = string.format('o%.0f', at)
    local text = redis.call('HGET', KEYS.state, field)
    local token, till = string.match(text, '(.*)@(%d+)')
    over[#over + 1] = field
    if tonumber(till) < time_ms - ${COPIES_KEPT_MS} then over[#over + 1] = 'c' .. token else note(text) end
    from = at + 1
  end
  note(ARGV.token .. '@' .. ARGV.notAfterMs)
  local row, spread = string.format('%.0f:%.0f', from, to), table.unpack or unpack
  redis.call('HSET', KEYS.state, 'c' .. ARGV.token, '1', 'c', row, spread(notes))
  if #over > 0 then redis.call('HDEL', KEYS.state, spread(over)) end
  if not last then redis.call('PEXPIRE', KEYS.state, '${KEPT_FOR_MS}') end
  return 'look'
end
-- Free when nothing waited, or never used.
if mark ~= '.' and (holder or last) then return 'look' end
last = last and tonumber(last)
if last and time_us <= last then return 'look' end
-- The digits of time_us.
local fence = string.format('%s%06d', time[1], time[2])
redis.call('HSET', KEYS.state, 'f0', fence)
redis.call('SET', KEYS.slot, ARGV.token, 'PX', ARGV.leaseMs)
if not last or time_us - last > time_us % ${KEPT_AGAIN_US} then redis.call('PEXPIRE', KEYS.state, '${KEPT_FOR_MS}') end
return fence
`,
  reply: String,
  check: (call: TakeFree) => call,
  does: ({ claim }) => `Acquiring permit ${describe(claim.name)}`,
  encode: ({ claim: { keys, token }, leaseMs }) => ({
    keys: { state: keys.state, slot: keys.slots[0]! },
    args: { keepMarker: '', token, leaseMs },
  }),
  decode: (answer): Taken => {
    if (answer === 'look') return { kind: 'look' };
    if (answer.startsWith('held:')) return { kind: 'held', nextMs: Number(answer.slice(5)) };
    return { kind: 'granted', slot: 0, fence: Number(answer) };
  },
});
