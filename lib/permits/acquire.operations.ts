import { describe } from '../atomic-redis.errors.js';
import { luaOperation } from '../operations/lua-operation.js';
import { defineOperation, defineStep } from '../operations/operation.js';
import { luaTime } from '../scripting/lua.js';
import { CLAIM_MS, luaPermit } from './lua-permit.js';
import { LINE_KEYS, type Claim } from './permit.operations.js';

/** One look of a caller for a permit. */
interface Look {
  readonly claim: Claim;
  readonly leaseMs: number;
  /** Time that the caller waits on, in milliseconds; 0 for one that does not wait, or no longer. */
  readonly waitMs: number;
  /** As an earlier look answered it; `-` where no answer came; '' for the first look. */
  readonly ticket: string;
}

/** The result of a look. */
export type Seen =
  | { readonly kind: 'granted'; readonly slot: number; readonly fence: number }
  | {
      readonly kind: 'waiting';
      readonly ticket: string;
      /**
       * Time until a lease ends, in milliseconds, unless its holder renews it; undefined for one
       * that stands further back.
       */
      readonly nextMs: number | undefined;
      /** Number of those ahead in the line. */
      readonly ahead: number;
    }
  | { readonly kind: 'busy'; readonly nextMs: number };

/**
 * Time for which one that waits is taken to be alive after each look, in milliseconds: one that
 * died holds up no other for longer than that and {@link CLAIM_MS}.
 */
const ALIVE_MS = 3_000;

/**
 * The first of the line look as a lease ends, since none of them may be there any more. Each look
 * hands on all free permits.
 */
const NEAR = 3;

/** Leases that one that does not wait looks at, to tell when it may come again. */
const LEASES_LOOKED_AT = 16;

const ARGS = {
  token: 'of the caller, never used before its first look',
  leaseMs: 'length of its lease',
  waitMs: 'how long it waits on, 0 for not at all',
  ticket: "its place in line, as answered before; - where that is unknown; '' at the first look",
} as const;

/**
 * A copy finds what the first call did: the token in a slot, or in line. Where that is over, its
 * caller has had an answer, of a call that was sent again and kept it.
 */
const keeping = { lua: luaOperation, recall: 'found[1]' };

/** @param first Lua for the place of the first slot among KEYS, the last of them */
const lookLua = (first: string): string => `
local first = ${first}
local own, is_new, free = nil, true, {}
for i = 0, #KEYS - first do
  local holder = found[i + 2]
  if holder == ARGV.token then own, is_new = i, false
  elseif is_free(holder) then free[#free + 1] = i end
end

local ticket, in_line, given, dead, ahead, next_ms = nil, false, {}, {}, 0, nil
if own == nil or ARGV.ticket ~= '' or ARGV[2] ~= '' then
  -- Before its first look the token stands nowhere.
  if ARGV.ticket ~= '' or ARGV[2] ~= '' then ticket = tonumber(redis.call('ZSCORE', KEYS.line, ARGV.token) or nil) end
  in_line = ticket ~= nil
  ticket = ticket or tonumber(ARGV.ticket)
  -- Those in line come first, in their order.
  if own == nil and #free > 0 then
    local is_mine = function(token, other)
      return token == ARGV.token or (not in_line and ticket ~= nil and ticket < other)
    end
    local alive, gone, was_found, is_end = next_in_line(KEYS.line, KEYS.state, time_ms, #free, is_mine)
    given, dead = alive, gone
    if #given < #free and (was_found or is_end) then own = free[#given + 1] end
  end
end

local answer, fence, last
if own ~= nil then
  last = redis.call('HGET', KEYS.state, 'f' .. own)
  fence = not is_new and last or fence_after(last, time_us)
  answer = 'granted:' .. own .. ':' .. fence
else
  if ARGV.waitMs ~= '0' then
    if not ticket then
      local newest = redis.call('ZRANGE', KEYS.line, '-1', '-1', 'WITHSCORES')[2]
      ticket = math.max(time_us, (tonumber(newest or nil) or 0) + 1)
    end
    ahead = math.max(0, redis.call('ZCOUNT', KEYS.line, '-inf', '(' .. digits(ticket)) - #given - #dead)
  end
  if #free > 0 then
    next_ms = ${CLAIM_MS}
  elseif ahead < ${NEAR} then
    local looked_at = ARGV.waitMs == '0' and math.min(#KEYS, first + ${LEASES_LOOKED_AT - 1}) or #KEYS
    for i = first, looked_at do
      local left = math.max(0, redis.call('PTTL', KEYS[i]))
      if not next_ms or left < next_ms then next_ms = left end
    end
  end
  if ARGV.waitMs == '0' then
    answer = 'busy:' .. digits(next_ms)
  else
    answer = 'waiting:' .. digits(ticket) .. ':' .. digits(ahead) .. ':' .. (next_ms and digits(next_ms) or '')
  end
end
remember(answer)

for _, token in ipairs(dead) do leave_line(KEYS.line, KEYS.state, token) end
for i, token in ipairs(given) do
  local slot = free[i]
  local before = redis.call('HGET', KEYS.state, 'f' .. slot)
  occupy(KEYS[first + slot], KEYS.line, slot, token, '${CLAIM_MS}', KEYS.state, fence_after(before, time_us), found[slot + 2], before, time_us)
  leave_line(KEYS.line, KEYS.state, token)
  wake(KEYS.line, token)
end
if own ~= nil then
  if is_new or not last then
    occupy(KEYS[first + own], KEYS.line, own, ARGV.token, ARGV.leaseMs, KEYS.state, fence, found[own + 2], last, time_us)
  else
    redis.call('PEXPIRE', KEYS[first + own], ARGV.leaseMs)
  end
  if in_line then leave_line(KEYS.line, KEYS.state, ARGV.token) end
elseif ARGV.waitMs ~= '0' then
  local alive_until = digits(time_ms + math.min(${ALIVE_MS}, tonumber(ARGV.waitMs)))
  redis.call('HSET', KEYS.state, 'w' .. ARGV.token, alive_until .. ':' .. ARGV.leaseMs)
  if not in_line then redis.call('ZADD', KEYS.line, digits(ticket), ARGV.token) end
  if in_line or ahead == 0 then
    keep(KEYS.line)
    keep(KEYS.state)
  end
elseif in_line then
  leave_line(KEYS.line, KEYS.state, ARGV.token)
end
return answer
`;

const CALL = {
  returns:
    'granted:<slot>:<fence> | waiting:<ticket>:<how many are ahead>:<ms to the next end of a lease, or nothing> | busy:<the same ms>',
  keeping,
  marksCopiesOnly: true,
  uses: [luaPermit],
  reply: String,
  check: (call: Look) => call,
  does: ({ claim }: Look) => `Acquiring permit ${describe(claim.name)}`,
  decode: (answer: string): Seen => {
    const [kind, ...fields] = answer.split(':') as [string, ...string[]];
    if (kind === 'granted') return { kind, slot: Number(fields[0]), fence: Number(fields[1]) };
    if (kind === 'busy') return { kind, nextMs: Number(fields[0]) };
    const nextMs = fields[2] ? Number(fields[2]) : undefined;
    return { kind: 'waiting', ticket: fields[0]!, ahead: Number(fields[1]), nextMs };
  },
  changed: (answer: string) => answer.startsWith('granted'),
} as const;

/**
 * Looks for the permit of a name that has one: takes it if it is free, else stands in line, or
 * leaves it where the caller waits no longer. Has a number of keys that does not vary, so that
 * calls share an EVALSHA.
 */
export const lookForOne = defineOperation({
  ...CALL,
  type: 'permits.lookForOne',
  keys: { ...LINE_KEYS, slot: 'the token of the holder' },
  args: ARGS,
  prepare: `local found = redis.call('MGET', KEYS.marker, KEYS.slot)`,
  lua: lookLua('#KEYS'),
  encode: ({ claim: { keys, token }, leaseMs, waitMs, ticket }) => ({
    keys: { state: keys.state, line: keys.line, slot: keys.slots[0]! },
    args: { token, leaseMs, waitMs, ticket },
  }),
});

/** Does the same for a name that has several permits. */
export const lookForAny = defineOperation({
  ...CALL,
  type: 'permits.look',
  keys: { ...LINE_KEYS, '...slots': 'for each slot, the token of its holder' },
  args: ARGS,
  prepare: `
local spread, names = table.unpack or unpack, { KEYS.marker }
for i = KEYS.slots, #KEYS do names[#names + 1] = KEYS[i] end
local found = redis.call('MGET', spread(names))
`,
  lua: lookLua('KEYS.slots'),
  encode: ({ claim: { keys, token }, leaseMs, waitMs, ticket }) => ({
    keys: { ...keys },
    args: { token, leaseMs, waitMs, ticket },
  }),
});

interface Stay {
  readonly claim: Claim;
  readonly leaseMs: number;
  readonly waitMs: number;
}

/**
 * Tells that one that stands further back still waits. It sees no slot, so that long lines before
 * many slots cost little.
 */
export const stay = defineStep({
  type: 'permits.stay',
  copies: 'a copy puts nobody into the line; for one in it, it tells what was so a moment ago',
  keys: LINE_KEYS,
  args: {
    notAfterMs: 'time limit, milliseconds of Redis’s clock',
    token: 'of one that waits',
    leaseMs: 'length of its lease',
    waitMs: 'how long it waits on',
  },
  returns:
    'TOO_LATE | look, where it should look: it stands near the front, or the first is not alive | stay',
  uses: [luaTime, luaPermit],
  lua: `
if time_ms > tonumber(ARGV.notAfterMs) then return 'TOO_LATE' end
local ahead = redis.call('ZRANK', KEYS.line, ARGV.token)
if not ahead or ahead < ${NEAR} then return 'look' end
local front = redis.call('ZRANGE', KEYS.line, '0', '0')[1]
if not is_alive(redis.call('HGET', KEYS.state, 'w' .. front), time_ms) then return 'look' end
local alive_until = digits(time_ms + math.min(${ALIVE_MS}, tonumber(ARGV.waitMs)))
redis.call('HSET', KEYS.state, 'w' .. ARGV.token, alive_until .. ':' .. ARGV.leaseMs)
return 'stay'
`,
  reply: String,
  check: (call: Stay) => call,
  does: ({ claim }) => `Acquiring permit ${describe(claim.name)}`,
  encode: ({ claim: { keys, token }, leaseMs, waitMs }) => ({
    keys: { state: keys.state, line: keys.line },
    args: { token, leaseMs, waitMs },
  }),
  decode: (answer) => answer === 'stay',
});
