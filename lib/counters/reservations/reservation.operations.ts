import { describe, UnsafeIntegerError } from '../../atomic-redis.errors.js';
import * as check from '../../atomic-redis.validation.js';
import { defineOperation, defineQuery, defineVariant } from '../../operations/operation.js';
import {
  checkEnforceableOptions,
  checkQueryOptions,
  enforceableOptionChecks,
  type EnforceableOptions,
  type QueryOptions,
} from '../../operations/operation.options.js';
import { luaNow } from '../../scripting/lua.js';
import { assertCounter, companionsOf } from '../counter-keys.js';
import { CounterLimitError, CounterOverflowError } from '../counter.errors.js';
import { CounterState, LIMITED, luaCounter, Refusal, SWEEP_LIMIT } from '../lua-counter.js';
import { idOf, newHold, parseId, quantityOf, type HoldReference } from './hold-id.js';
import type { Hold, HoldOptions } from './reservation.options.js';

const checkHoldOptions = check.options({
  ...enforceableOptionChecks,
  ttlMs: check.milliseconds(),
  min: check.int64,
} satisfies Record<keyof HoldOptions, check.Check>);

const COUNTER = 'what is available, a signed 64-bit integer in decimal';
const HOLDS = 'of the counter, a sorted set of "<quantity>:<nonce>" by expiry';

const isPartial = (answer: string): boolean => answer === CounterState.More;

/** Takes a quantity off a counter and notes that it is held. */
export const hold = defineOperation({
  type: 'reservations.hold',
  keys: { counter: COUNTER, life: 'the id of the counter’s present incarnation', holds: HOLDS },
  args: {
    hold: '"<quantity>:<nonce>", never used before',
    amount: 'to add to the counter, the negative of the quantity',
    min: 'what must be left',
    ttlMs: 'how long it is held',
  },
  returns: `a string: MORE | NOT_AN_INTEGER | WRONG_TYPE | overflow | inexact | limited:<value> | held:<value>:<expiresAtMs>`,
  uses: [luaCounter],
  lua: `
local now = time_ms
local c = counter_open(KEYS.counter, KEYS.life, KEYS.holds, now, ${SWEEP_LIMIT})
if c.problem then return remember(c.problem) end

local answer
if c.more then
  answer = '${CounterState.More}'
else
  local target, limited = counter_judge(c, int64_parse(ARGV.amount), ARGV.min, '', 'n')
  if not target then
    answer = limited
  elseif limited then
    answer = '${LIMITED}:' .. int64_format(target)
  else
    counter_move(c, target, '', '', '')
    c.hold, c.hold_until = ARGV.hold, now + tonumber(ARGV.ttlMs)
    answer = 'held:' .. int64_format(target) .. ':' .. string.format('%.0f', c.hold_until)
  end
end
remember(answer)
counter_store(c)
return answer
`,
  reply: String,
  check: ({ key, quantity }: { key: string; quantity: number }, options: HoldOptions) => {
    check.key('key', key);
    check.integer(1)('quantity', quantity);
    checkHoldOptions('options', options);
    check.milliseconds()('options.ttlMs', options.ttlMs);
    const { ttlMs, min = 0 } = options;
    return { key, quantity, reference: newHold(quantity), min, ttlMs };
  },
  does: ({ key }) => `Holding of counter ${describe(key)}`,
  encode: ({ key, quantity, reference, min, ttlMs }, keys) => ({
    keys: companionsOf(keys, key),
    args: { hold: reference, amount: -quantity, min, ttlMs },
  }),
  isPartial,
  decode: (answer, { key, quantity, reference, min }): Hold => {
    assertCounter(key, answer);
    if (answer === Refusal.Overflow) throw new CounterOverflowError(key, -quantity);
    if (answer === Refusal.Inexact) throw new UnsafeIntegerError(key, 'CounterService with bigints');
    const [what, value, expiresAtMs] = answer.split(':');
    if (what === LIMITED) throw new CounterLimitError(key, Number(value), -quantity, min);
    return {
      id: idOf({ counter: key, hold: reference }),
      quantity,
      available: Number(value),
      expiresAtMs: Number(expiresAtMs),
    };
  },
});

/** The end of a hold, or its extension, checked. */
interface Settlement {
  readonly action: 'confirm' | 'release' | 'extend';
  /** Undefined for what is no id of a hold. */
  readonly reference: HoldReference | undefined;
  readonly ttlMs: number | '';
}

/** @throws InvalidArgumentError */
function checkedSettlement(
  action: Settlement['action'],
  id: string,
  ttlMs: Settlement['ttlMs'],
  options: EnforceableOptions,
): Settlement {
  check.nonEmptyString('id', id);
  checkEnforceableOptions('options', options);
  return { action, reference: parseId(id), ttlMs };
}

const isUnknownId = ({ reference }: Settlement): false | undefined => (reference ? undefined : false);

/** Confirms, releases or extends a hold that has not expired. */
export const confirm = defineOperation({
  type: 'reservations.confirm',
  name: 'reservations.settle',
  keys: { counter: COUNTER, holds: HOLDS },
  args: {
    action: 'confirm | release | extend',
    hold: '"<quantity>:<nonce>"',
    ttlMs: "extend: how long from now it is held; else ''",
  },
  returns: 'a string: MORE | NOT_AN_INTEGER | WRONG_TYPE | gone | overflow | done',
  uses: [luaCounter],
  lua: `
local now = time_ms
local c = counter_open(KEYS.counter, nil, KEYS.holds, now, ${SWEEP_LIMIT})
local expires = tonumber(redis.call('ZSCORE', KEYS.holds, ARGV.hold) or nil)
-- An id that was never given may name any key: there, too, is no such hold.
if c.problem then return remember(expires and c.problem or '${Refusal.Gone}') end

local function settle()
  if not c.value or not expires or expires <= now then return '${Refusal.Gone}' end
  if ARGV.action == 'extend' then
    c.hold, c.hold_until = ARGV.hold, math.max(expires, now + tonumber(ARGV.ttlMs))
    return 'done'
  end
  if ARGV.action == 'release' then
    local value = int64_add(c.value, quantity_of(ARGV.hold))
    if not int64_fits(value) then return '${Refusal.Overflow}' end
    c.value, c.changed = value, true
  end
  c.hold = ARGV.hold
  return 'done'
end

local answer = c.more and '${CounterState.More}' or settle()
remember(answer)
counter_store(c)
return answer
`,
  reply: String,
  check: ({ id }: { id: string }, options: EnforceableOptions) =>
    checkedSettlement('confirm', id, '', options),
  known: isUnknownId,
  does: ({ reference }) => `Changing a hold of counter ${describe(reference!.counter)}`,
  encode: ({ action, reference, ttlMs }, space) => {
    const { counter, holds } = companionsOf(space, reference!.counter);
    return { keys: { counter, holds }, args: { action, hold: reference!.hold, ttlMs } };
  },
  isPartial,
  decode: (answer, { reference }): boolean => {
    const { counter, hold: held } = reference!;
    assertCounter(counter, answer);
    if (answer === Refusal.Overflow) throw new CounterOverflowError(counter, quantityOf(held));
    return answer !== Refusal.Gone;
  },
  changed: (answer) => answer !== Refusal.Gone,
});

export const release = defineVariant(confirm, {
  type: 'reservations.release',
  check: ({ id }: { id: string }, options: EnforceableOptions) =>
    checkedSettlement('release', id, '', options),
});

export const extend = defineVariant(confirm, {
  type: 'reservations.extend',
  check: ({ id, ttlMs }: { id: string; ttlMs: number }, options: EnforceableOptions) => {
    check.milliseconds()('ttlMs', ttlMs);
    return checkedSettlement('extend', id, ttlMs, options);
  },
});

/** Reads what is held of a counter. */
export const list = defineQuery({
  type: 'reservations.list',
  keys: { counter: 'the counter', holds: HOLDS },
  args: {},
  returns:
    'an array of strings: for each hold that has not expired, soonest first, "<quantity>:<nonce>" and when it expires',
  uses: [luaNow],
  lua: `
-- What was held of a counter that is gone is void.
if redis.call('EXISTS', KEYS.counter) == 0 then return {} end
local held = redis.call('ZRANGEBYSCORE', KEYS.holds, '(' .. string.format('%.0f', now_ms()), '+inf', 'WITHSCORES')
for i = 2, #held, 2 do held[i] = string.format('%.0f', tonumber(held[i])) end
return held
`,
  reply: (raw) => raw as string[],
  check: ({ key }: { key: string }, options: QueryOptions) => {
    check.key('key', key);
    checkQueryOptions('options', options);
    return key;
  },
  encode: (key, space) => {
    const { counter, holds } = companionsOf(space, key);
    return { keys: { counter, holds }, args: {} };
  },
  decode: (flat, counter): Omit<Hold, 'available'>[] =>
    Array.from({ length: flat.length / 2 }, (_, i) => ({
      id: idOf({ counter, hold: flat[2 * i]! }),
      quantity: quantityOf(flat[2 * i]!),
      expiresAtMs: Number(flat[2 * i + 1]),
    })),
});
