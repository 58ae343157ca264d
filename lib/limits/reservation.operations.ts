import { describe, InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { luaCreate } from '../operations/lua-operation.js';
import { defineOperation } from '../operations/operation.js';
import {
  checkEnforceableOptions,
  enforceableOptionChecks,
  type EnforceableOptions,
} from '../operations/operation.options.js';
import { wrongType } from './limit-commands.js';
import { specificationOf } from './limit-batch.js';
import { combined, foundIn, resultAfter, resultOf } from './limit-result.js';
import { keysOfLimits, LIMITS, SPECIFICATIONS } from './limit.operations.js';
import { checkedLimits, priced, type Limit } from './limit.js';
import type { LimitReservation, ReserveOptions } from './limit-reservation.js';
import { luaLimit, luaReservation, MORE, SWEEP_LIMIT, WRONG_TYPE } from './lua-limit.js';
import { idOf, newNonce, parseId } from './reservation-id.js';

const checkReserveOptions = check.options(
  { ...enforceableOptionChecks, ttlMs: check.milliseconds() } satisfies Record<
    keyof ReserveOptions,
    check.Check
  >,
  'ttlMs',
);

const isMore = (answer: string): boolean => answer === MORE;

/** Takes the costs for a while from all limits, or from none. */
export const reserve = defineOperation({
  type: 'limits.reserve',
  keys: { '...limits': LIMITS },
  args: {
    ttlMs: 'how long it is reserved',
    nonce: 'of the reservation, never used before',
    '...specifications': SPECIFICATIONS,
  },
  returns: `a string: MORE | WRONG_TYPE,<index of the limit, from 0> | refused:0|<each limit, joined by "|"> | reserved:<lapses, ms>|<likewise>`,
  uses: [luaLimit, luaReservation, luaCreate],
  lua: `
local limits, specs, parts, holds = {}, {}, {}, {}
local lapses = time_ms + tonumber(ARGV.ttlMs)
local all_fit, more, room = true, false, ${SWEEP_LIMIT}
for i = ARGV.specifications, #ARGV do
  local n = i - ARGV.specifications
  local spec = specification(ARGV[i])
  local l = open(KEYS[KEYS.limits + 2 * n], KEYS[KEYS.limits + 2 * n + 1], spec, room)
  room = room - l.swept
  if l.problem then return remember(l.problem .. string.format(',%.0f', n)) end
  -- Reservations that Redis has evicted are void. With a new one behind them, what they hold would never lapse.
  if l.first and redis.call('EXISTS', l.holds_key) == 0 then
    l.held, l.held_rest, l.first, l.last = 0, 0, nil, nil
  end
  limits[n + 1], specs[n + 1], parts[n + 1], more = l, spec, describe(l), more or l.more
  holds[n + 1] = string.format('%.0f:%.0f:%.0f:', spec[5], spec[6], spec[2]) .. ARGV.nonce
  if fits(l, spec, 1) == 0 then all_fit = false end
end

local answer = '${MORE}'
local reserves = all_fit and not more
if not more then
  answer = (all_fit and string.format('reserved:%.0f|', lapses) or 'refused:0|') .. table.concat(parts, '|')
end
local refused = ARGV.keepMarker ~= '' and create(KEYS.marker, answer, 'PXAT', marker_end())
if refused then return refused end
local texts = {}
for n, l in ipairs(limits) do
  if reserves then reserve(l, specs[n], lapses) end
  local text, ends = text_of(l)
  texts[n] = {text, ends}
  if reserves and not l.stored then
    refused = create(l.key, text, 'PXAT', ends)
    if refused then return refused end
  end
end
for n, l in ipairs(limits) do
  if reserves then
    if l.begins then redis.call('UNLINK', l.holds_key) end
    local added = redis.pcall('ZADD', l.holds_key, string.format('%.0f', lapses), holds[n])
    if type(added) == 'table' and added.err then
      for m = 1, n - 1 do redis.call('ZREM', limits[m].holds_key, holds[m]) end
      return take_back(added)
    end
  end
end
for n, l in ipairs(limits) do
  if l.changed then store(l, texts[n][1], texts[n][2]) end
  if reserves then redis.call('PEXPIREAT', l.holds_key, string.format('%.0f', l.last)) end
end
return answer
`,
  reply: String,
  check: ({ limits }: { limits: readonly Limit[] }, options: ReserveOptions) => {
    const checked = checkedLimits(limits);
    checkReserveOptions('options', options);
    return { limits: checked, ttlMs: options.ttlMs, nonce: newNonce() };
  },
  does: ({ limits }) => `Reserving from limit ${describe(limits[0]!.key)}`,
  encode: ({ limits, ttlMs, nonce }, space) => ({
    callersKeys: limits.map(({ key }) => key),
    keys: { limits: keysOfLimits(limits, space) },
    args: { ttlMs, nonce, specifications: limits.map(specificationOf) },
  }),
  isPartial: isMore,
  decode: (answer, { limits, nonce }): LimitReservation => {
    if (answer.startsWith(WRONG_TYPE)) throw wrongType(limits, answer);
    const [what, ...parts] = answer.split('|');
    const [verdict, lapses] = what!.split(':');
    const isReserved = verdict === 'reserved';
    const result = combined(
      limits,
      limits.map((limit, i) => {
        const found = foundIn(limit, parts[i]!);
        return isReserved ? resultOf(limit, found, 1) : resultAfter(limit, found, 0);
      }),
    );
    return isReserved
      ? { ...result, allowed: true, id: idOf({ limits, nonce }), expiresAtMs: Number(lapses) }
      : { ...result, allowed: false, id: undefined, expiresAtMs: undefined };
  },
  changed: (answer) => answer.startsWith('reserved'),
});

/** Ends a reservation, and takes the actual cost. */
export const settle = defineOperation({
  type: 'limits.settle',
  keys: { '...limits': LIMITS },
  args: { nonce: 'of the reservation', '...specifications': `${SPECIFICATIONS}:<price reserved>:<its rest>` },
  returns: 'a string: MORE | gone | settled',
  uses: [luaLimit, luaReservation],
  lua: `
local limits, specs, holds, more, room = {}, {}, {}, false, ${SWEEP_LIMIT}
for i = ARGV.specifications, #ARGV do
  local n = i - ARGV.specifications
  local spec = specification(ARGV[i])
  local l = open(KEYS[KEYS.limits + 2 * n], KEYS[KEYS.limits + 2 * n + 1], spec, room)
  room = room - l.swept
  if not l.problem then
    local reserved = string.match(ARGV[i], ':(%d+:%d+)$')
    limits[#limits + 1], specs[#specs + 1], more = l, spec, more or l.more
    holds[#limits] = reserved .. string.format(':%.0f:', spec[2]) .. ARGV.nonce
  end
end
-- While more has lapsed, it gives back and does nothing else. What it gave back is stored: otherwise the next call would
-- give back the same, and not get any further.
local stores, settled = {}, false
for n, l in ipairs(limits) do
  if more then
    stores[n] = l.swept > 0
  elseif unreserve(l, holds[n]) then
    if specs[n][5] > 0 or specs[n][6] > 0 then charge(l, specs[n], 1) end
    stores[n], settled = true, true
  end
end
local answer = more and '${MORE}' or (settled and 'settled' or 'gone')
remember(answer)
for n, l in ipairs(limits) do
  if stores[n] then
    local text, ends = text_of(l)
    store(l, text, ends, settled and holds[n])
  end
end
return answer
`,
  reply: String,
  check: (
    { id, actual }: { id: string; actual: number | readonly number[] },
    options: EnforceableOptions,
  ) => {
    check.nonEmptyString('id', id);
    checkEnforceableOptions('options', options);
    const reference = parseId(id);
    const count = reference?.limits.length ?? 1;
    const actuals = Array.isArray(actual)
      ? [...(actual as readonly number[])]
      : Array<number>(count).fill(actual as number);
    for (const one of actuals) check.integer(0)('actual', one);
    if (reference && actuals.length !== count)
      throw new InvalidArgumentError('actual', `a number, or one for each of the ${count} limits`, actual);
    return {
      reference,
      charged: (reference?.limits ?? []).map((limit, i) => priced('actual', limit, actuals[i]!)),
    };
  },
  known: ({ reference }): false | undefined => (reference ? undefined : false),
  does: ({ reference }) => `Settling a reservation of limit ${describe(reference!.limits[0]!.key)}`,
  encode: ({ reference, charged }, space) => {
    const { limits, nonce } = reference!;
    return {
      callersKeys: limits.map(({ key }) => key),
      keys: { limits: keysOfLimits(limits, space) },
      args: {
        nonce,
        specifications: limits.map(
          ({ price, priceRest }, i) => `${specificationOf(charged[i]!)}:${price}:${priceRest}`,
        ),
      },
    };
  },
  isPartial: isMore,
  decode: (answer) => answer === 'settled',
  changed: (answer) => answer === 'settled',
});
