import { describe } from '../atomic-redis.errors.js';
import type { Renewal } from '../leases/lease-keeper.js';
import { defineStep } from '../operations/operation.js';
import { luaNow } from '../scripting/lua.js';
import { luaHandOn, luaPermit } from './lua-permit.js';
import type { PermitKeys } from './permit-keys.js';
import { Row } from './row.js';

export const LINE_KEYS = {
  state: 'hash of fences and of those that wait',
  line: 'sorted set of those that wait',
} as const;

/** The way of one caller to a permit. */
export interface Claim {
  readonly name: string;
  readonly keys: PermitKeys;
  /** Begins with the name of its service instance, of {@link PROCESS_LENGTH} characters. */
  readonly token: string;
}

/** One that was handed a permit while it waited. */
export interface Heir {
  readonly token: string;
  /**
   * Undefined for a copy: when the lease began, and how long it is, is unknown. The heir looks
   * then.
   */
  readonly row: Row | undefined;
}

interface Release {
  readonly claim: Claim;
  /** The token that the slot holds. */
  readonly token: string;
  readonly slot: number;
  /** The last fence of its row. */
  readonly fence: number;
  /** Tokens of those that had the permit behind the first of its row, or need it no more. */
  readonly left: readonly string[];
  /** The most that may stand in a row behind the one that it is handed to. */
  readonly maxRow: number;
  /** True if it was asked for before, and that may have arrived. */
  readonly isRepeated: boolean;
  /** Time for which a copy may come and ask, in milliseconds. */
  readonly keptMs: number;
}

interface Released {
  /** False when the token held no slot. */
  readonly isReleased: boolean;
  readonly heir: Heir | undefined;
}

const decode = (answer: string): Released => {
  const [what, token, slot, fence, waiting] = answer.split(':');
  if (token === undefined) return { isReleased: what === 'released', heir: undefined };
  const behind = waiting ? waiting.split(',') : [];
  const row = slot === undefined ? undefined : new Row(token, Number(slot), Number(fence), behind);
  return { isReleased: true, heir: { token, row } };
};

/** The way of nearly all calls, ahead of the functions that the others need: nothing waits. */
const leaveFree = `
local holder = redis.call('GET', KEYS.slot)
if holder == ARGV.token and redis.call('EXISTS', KEYS.line) == 0 then
  local left = redis.pcall('SET', KEYS.slot, '.' .. ARGV.token, 'PX', ARGV.keptMs)
  -- A full Redis refuses it. A copy is then told that the permit was lost.
  if type(left) == 'table' and left.err then redis.call('DEL', KEYS.slot) end
  return 'released'
end
`;

/**
 * Gives a permit back. It goes to the first in line that is alive. A copy learns from its fence
 * what became of the permit, and which token has it now. The new holder may not know of it: it
 * looks then, because the rest of its lease is not in the answer.
 */
export const release = defineStep({
  type: 'permits.release',
  copies:
    'a token that was given back never holds the slot again, and a permit that is lost is lost later at any rate',
  keys: { ...LINE_KEYS, slot: 'the token of the holder' },
  args: {
    token: 'of the holder',
    row: `<fence>:<slot>:<max_row>,<token>,…
fence    of its permit, the last of its row
slot     number of the slot
max_row  the most that may stand in a row behind the one that it is handed to
token    of each of its own row that has left`,
    keepMarker: "'1' where it may have been made before, else ''",
    keptMs: 'how long a copy may come and ask',
  },
  returns:
    'released | released:<token>:<slot>:<last fence of the row>:<tokens behind it, joined by commas>, handed to one that waits in the same process, with its whole lease | released:<token>, by a copy, who has it now | lost, where the token had lost the slot',
  uses: [leaveFree, luaPermit, luaHandOn],
  lua: `
local own_fence, slot, max_row, left = string.match(ARGV.row, '^(%d+):(%d+):(%d+)(.*)$')
if left ~= '' then
  local tokens, waits = {}, {}
  for token in string.gmatch(left, '[^,]+') do
    tokens[#tokens + 1], waits[#waits + 1] = token, 'w' .. token
  end
  redis.call('ZREM', KEYS.line, spread(tokens))
  redis.call('HDEL', KEYS.state, spread(waits))
end
if holder == ARGV.token then
  return hand_on(KEYS.slot, slot, ARGV.token, KEYS.state, KEYS.line, ARGV.keptMs, tonumber(max_row))
end
if holder and string.sub(holder, 2) == ARGV.token and is_free(holder) then return 'released' end
-- Not given back before. What a flush or a failover takes leaves no note.
if ARGV.keepMarker == '' then return 'lost' end
local last = redis.call('HGET', KEYS.state, 'f' .. slot)
if not last or tonumber(last) <= tonumber(own_fence) or is_lost(KEYS.state, slot, own_fence) then return 'lost' end
if is_free(holder) then return 'released' end
return 'released:' .. holder
`,
  reply: String,
  check: (call: Release) => call,
  does: ({ claim }) => `Releasing permit ${describe(claim.name)}`,
  encode: ({ claim: { keys }, token, slot, fence, left, maxRow, isRepeated, keptMs }) => ({
    keys: { state: keys.state, line: keys.line, slot: keys.slots[slot]! },
    args: {
      token,
      row: `${fence}:${slot}:${maxRow}${left.length === 0 ? '' : `,${left.join(',')}`}`,
      keepMarker: isRepeated ? '1' : '',
      keptMs,
    },
  }),
  decode,
  changed: (answer) => answer !== 'lost',
});

/** Leaves the line, and gives back what was given meanwhile. */
export const leave = defineStep({
  type: 'permits.leave',
  copies: 'a token that has left never stands in line or holds a slot again',
  keys: { ...LINE_KEYS, '...slots': 'for each slot, the token of its holder' },
  args: { token: 'of one that waits', keptMs: 'as of permits.release' },
  returns: 'as permits.release; lost, where the token held no slot',
  uses: [luaPermit, luaHandOn],
  lua: `
local first = KEYS.slots
leave_line(KEYS.line, KEYS.state, ARGV.token)
for i = 0, #KEYS - first do
  if redis.call('GET', KEYS[first + i]) == ARGV.token then
    return hand_on(KEYS[first + i], digits(i), ARGV.token, KEYS.state, KEYS.line, ARGV.keptMs, 0)
  end
end
return 'lost'
`,
  reply: String,
  check: (call: Pick<Release, 'claim' | 'keptMs'>) => call,
  does: ({ claim }) => `Releasing permit ${describe(claim.name)}`,
  encode: ({ claim: { keys, token }, keptMs }) => ({
    keys: { ...keys },
    args: { token, keptMs },
  }),
  decode,
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
