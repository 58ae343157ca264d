import { describe } from '../atomic-redis.errors.js';
import type { Renewal } from '../leases/lease-keeper.js';
import { defineOperation, defineStep } from '../operations/operation.js';
import { luaNow } from '../scripting/lua.js';
import { CLAIM_MS, luaPermit } from './lua-permit.js';
import type { PermitKeys } from './permit-keys.js';

const KEYS = {
  state: 'hash of fences and of those that wait',
  line: 'sorted set of those that wait',
  '...slots': 'for each slot, the token of its holder',
} as const;

/** The way of one caller to a permit. */
export interface Claim {
  readonly name: string;
  readonly keys: PermitKeys;
  readonly token: string;
  /** Names this service instance. */
  readonly process: string;
}

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
      /** Number of those ahead in the line. */
      readonly ahead: number;
      /** Time until a lease ends, in milliseconds, unless its holder renews it. */
      readonly nextMs: number;
    }
  | { readonly kind: 'busy'; readonly nextMs: number };

/**
 * Time for which one that waits is taken to be alive after each look, in milliseconds: one that
 * died holds up no other for longer than that and {@link CLAIM_MS}.
 */
const ALIVE_MS = 3_000;

/**
 * Looks for a permit: takes a free one, else stands in line, or leaves it where the caller waits no
 * longer.
 */
export const look = defineOperation({
  type: 'permits.look',
  keys: KEYS,
  args: {
    token: 'of the caller, never used before its first look',
    leaseMs: 'length of its lease',
    waitMs: 'how long it waits on, 0 for not at all',
    ticket: "its place in line, as answered before; - where that is unknown; '' at the first look",
    process: 'of the caller',
  },
  returns:
    'granted:<slot>:<fence> | waiting:<ticket>:<how many are ahead>:<ms to the next end of a lease> | busy:<the same ms>',
  uses: [luaPermit],
  lua: `
local ms, us = moment()
us = tonumber(us)
local first = KEYS.slots
local own, is_new, next_ms, free = nil, true, ${CLAIM_MS}, {}
for i = 0, #KEYS - first do
  local holder = redis.call('GET', KEYS[first + i])
  if holder == ARGV.token then own, is_new = i, false
  elseif not holder then free[#free + 1] = i end
end

-- Before its first look the token stands nowhere.
local ticket = ARGV.ticket ~= '' and tonumber(redis.call('ZSCORE', KEYS.line, ARGV.token) or nil) or nil
local in_line = ticket ~= nil
ticket = ticket or tonumber(ARGV.ticket)

-- Those in line come first, in their order.
local given, dead = {}, {}
if not own and #free > 0 then
  local is_mine = function(token, other)
    return token == ARGV.token or (not in_line and ticket ~= nil and ticket < other)
  end
  local alive, gone, found, is_end = next_in_line(KEYS.line, KEYS.state, ms, #free, is_mine)
  given, dead = alive, gone
  if #given < #free and (found or is_end) then own = free[#given + 1] end
end

local answer, fence
if own then
  fence = not is_new and redis.call('HGET', KEYS.state, 'f' .. own) or next_fence(KEYS.state, own, us)
  answer = 'granted:' .. own .. ':' .. fence
else
  if #free == 0 then
    next_ms = nil
    for i = 0, #KEYS - first do
      local left = math.max(0, redis.call('PTTL', KEYS[first + i]))
      if not next_ms or left < next_ms then next_ms = left end
    end
  end
  if ARGV.waitMs == '0' then
    answer = 'busy:' .. digits(next_ms)
  else
    if not ticket then
      local last = redis.call('ZRANGE', KEYS.line, -1, -1, 'WITHSCORES')[2]
      ticket = math.max(us, (tonumber(last or nil) or 0) + 1)
    end
    local ahead = redis.call('ZCOUNT', KEYS.line, '-inf', '(' .. digits(ticket)) - #given - #dead
    answer = 'waiting:' .. digits(ticket) .. ':' .. digits(math.max(0, ahead)) .. ':' .. digits(next_ms)
  end
end
remember(answer)

for _, token in ipairs(dead) do leave_line(KEYS.line, KEYS.state, token) end
for i, token in ipairs(given) do
  give(KEYS[first + free[i]], free[i], token, KEYS.state, KEYS.line, next_fence(KEYS.state, free[i], us))
end
if own then
  redis.call('SET', KEYS[first + own], ARGV.token, 'PX', ARGV.leaseMs)
  redis.call('HSET', KEYS.state, 'f' .. own, fence)
  if in_line then leave_line(KEYS.line, KEYS.state, ARGV.token) end
elseif ARGV.waitMs ~= '0' then
  redis.call('ZADD', KEYS.line, digits(ticket), ARGV.token)
  local alive_until = digits(ms + math.min(${ALIVE_MS}, tonumber(ARGV.waitMs)))
  redis.call('HSET', KEYS.state, 'w' .. ARGV.token, alive_until .. ':' .. ARGV.leaseMs .. ':' .. ARGV.process)
  keep(KEYS.line)
elseif in_line then
  leave_line(KEYS.line, KEYS.state, ARGV.token)
end
keep(KEYS.state)
return answer
`,
  reply: String,
  check: (call: Look) => call,
  does: ({ claim }) => `Acquiring permit ${describe(claim.name)}`,
  encode: ({ claim, leaseMs, waitMs, ticket }) => ({
    keys: { ...claim.keys },
    args: { token: claim.token, leaseMs, waitMs, ticket, process: claim.process },
  }),
  decode: (answer): Seen => {
    const [kind, ...fields] = answer.split(':') as [string, ...string[]];
    if (kind === 'granted') return { kind, slot: Number(fields[0]), fence: Number(fields[1]) };
    if (kind === 'busy') return { kind, nextMs: Number(fields[0]) };
    return { kind: 'waiting', ticket: fields[0]!, ahead: Number(fields[1]), nextMs: Number(fields[2]) };
  },
  changed: (answer) => answer.startsWith('granted'),
});

/** A permit that was handed to a claim of this process. */
export interface Heir {
  readonly token: string;
  readonly slot: number;
  readonly fence: number;
}

interface Release {
  readonly claim: Claim;
  /** The slot that the claim holds; undefined for one that waits, which may have been given any. */
  readonly slot: number | undefined;
}

interface Released {
  /** False when the token held no slot. */
  readonly isReleased: boolean;
  readonly heir: Heir | undefined;
}

/** Gives a permit back, or leaves the line. A permit goes to the first in line that is alive. */
export const release = defineOperation({
  type: 'permits.release',
  keys: KEYS,
  args: {
    token: 'of the holder, or of one that waits',
    slot: 'number of the first slot among KEYS',
    process: 'of the caller',
  },
  returns:
    'released | released:<token>:<slot>:<fence>, handed to one that waits in the same process | lost, where the token holds none of the slots',
  uses: [luaPermit],
  lua: `
local ms, us = moment()
us = tonumber(us)
local first = KEYS.slots
local own
for i = 0, #KEYS - first do
  if redis.call('GET', KEYS[first + i]) == ARGV.token then own = i end
end
local heirs, dead = {}, {}
if own then
  local never = function() return false end
  heirs, dead = next_in_line(KEYS.line, KEYS.state, ms, 1, never)
end
local heir, slot = heirs[1], own and digits(tonumber(ARGV.slot) + own)
local answer, fence, told_lease = own and 'released' or 'lost', nil, nil
if heir then
  local lease, process = string.match(redis.call('HGET', KEYS.state, 'w' .. heir), '^%d+:(%d+):(.*)$')
  fence = next_fence(KEYS.state, slot, us)
  if process == ARGV.process then
    told_lease = lease
    answer = 'released:' .. heir .. ':' .. slot .. ':' .. fence
  end
end
remember(answer)

if not own then leave_line(KEYS.line, KEYS.state, ARGV.token) end
for _, token in ipairs(dead) do leave_line(KEYS.line, KEYS.state, token) end
if heir then give(KEYS[first + own], slot, heir, KEYS.state, KEYS.line, fence, told_lease)
elseif own then redis.call('DEL', KEYS[first + own]) end
return answer
`,
  reply: String,
  check: (call: Release) => call,
  does: ({ claim }) => `Releasing permit ${describe(claim.name)}`,
  encode: ({ claim: { keys, token, process }, slot }) => ({
    keys: slot === undefined ? { ...keys } : { ...keys, slots: [keys.slots[slot]!] },
    args: { token, slot: slot ?? 0, process },
  }),
  decode: (answer): Released => {
    const [what, token, slot, fence] = answer.split(':');
    const heir = token === undefined ? undefined : { token, slot: Number(slot), fence: Number(fence) };
    return { isReleased: what === 'released', heir };
  },
  changed: (answer) => answer !== 'lost',
});

/** Renewals of several permits. */
interface Renewals {
  readonly slots: readonly string[];
  /** Token and length in milliseconds of each. */
  readonly leases: readonly (string | number)[];
}

/**
 * Prolongs the leases of permits. A permit that has lapsed is lost: another may have had it since.
 */
export const renew = defineStep({
  type: 'permits.renew',
  copies:
    'a lease is prolonged for the token that holds the slot only, which never holds it again once it was given back',
  keys: { '...slots': 'the token of each holder' },
  args: {
    notAfterMs: 'time limit, milliseconds of Redis’s clock',
    '...leases': `for each slot
+0 token    of the holder
+1 leaseMs  from now`,
  },
  returns: 'TOO_LATE | per slot, joined by commas: renewed | lost',
  uses: [luaNow],
  lua: `
if now_ms() > tonumber(ARGV.notAfterMs) then return 'TOO_LATE' end
local answers = {}
for i = 1, #KEYS do
  local at = ARGV.leases + 2 * (i - 1)
  if redis.call('GET', KEYS[i]) == ARGV[at] then
    redis.call('PEXPIRE', KEYS[i], ARGV[at + 1])
    answers[i] = 'renewed'
  else
    answers[i] = 'lost'
  end
end
return table.concat(answers, ',')
`,
  reply: (raw) => String(raw).split(',') as Renewal[],
  check: (renewals: Renewals) => renewals,
  does: () => 'Renewing permits',
  encode: ({ slots, leases }) => ({ keys: { slots }, args: { leases } }),
  decode: (renewals) => renewals,
});
