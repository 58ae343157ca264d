import { describe } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { luaTypeOf } from '../scripting/lua.js';
import { asReturned, type BinaryValue, type Encoding } from '../scripting/encoding.js';
import { defineOperation, defineVariant } from '../operations/operation.js';
import { keptValue, luaNoValue } from './lua-kept-value.js';
import { Answer, toValueAnswer, TtlChange, type ValueAnswer } from './value-answer.js';
import {
  checkExpiry,
  checkValueOptions,
  checkWriteOptions,
  type Expiry,
  type ValueOptions,
  type ValueWriteOptions,
} from './value.options.js';
import { found, swapArguments, swapped, type CompareAndSetResult } from './value-result.js';

/** A comparison and what follows it, checked. */
interface Swap {
  readonly key: string;
  readonly expected: BinaryValue | null;
  /** Null to delete. */
  readonly next: BinaryValue | null;
  /** The new value in the caller's encoding, for a call that took effect. */
  readonly after: BinaryValue | null;
  readonly encoding: Encoding | undefined;
}

/** @throws InvalidArgumentError */
function checkedSwap(
  { key, expected, next }: Pick<Swap, 'key' | 'expected' | 'next'>,
  options: ValueOptions,
): Swap {
  check.key('key', key);
  if (expected !== null) check.bytes('expected', expected);
  const after = next === null ? null : asReturned('next', next, options);
  return { key, expected, next, after, encoding: options.encoding };
}

/** @throws InvalidArgumentError */
function checkedFieldSwap(
  { field, ...swap }: Pick<Swap, 'key' | 'expected' | 'next'> & { field: BinaryValue },
  options: ValueOptions,
): Swap & { readonly field: BinaryValue } {
  check.bytes('field', field);
  checkValueOptions('options', options);
  return { ...checkedSwap(swap, options), field };
}

const isFound = ({ answer }: ValueAnswer): boolean => answer === Answer.Value;
const toSet = (done: boolean, current: BinaryValue | null): CompareAndSetResult<BinaryValue> => ({
  swapped: done,
  current,
});
const toDeleted = (deleted: boolean, current: BinaryValue | null) => ({ deleted, current });

const SWAP_ARGS = {
  hasExpected: "'1', or '' when nothing is expected to be there",
  expected: 'bytes',
  hasNext: "'1', or '' to delete",
  next: 'bytes',
} as const;

/** Reads the present value as `current`, and defines `refused()`. */
const luaCurrent = (key: string, kind: string, read: string): string => `
local kind = type_of(${key})
local current = false
if kind == '${kind}' then current = ${read} end

-- The marker says that it was refused, not what was there, which may be large: a copy is told what is there when it comes.
local function refused()
  if kind ~= '${kind}' and kind ~= 'none' then return {'${Answer.WrongType}'} end
  if not current then return {'${Answer.Refused}'} end
  return {'${Answer.Refused}', current}
end
`;
const luaSwap = (kind: string, write: string): string => `
local expected = ARGV.hasExpected == '1' and ARGV.expected
if current ~= expected or (kind ~= '${kind}' and kind ~= 'none') then
  remember('${Answer.Refused}')
  return refused()
end
remember('${Answer.Swapped}')
${write.trim()}
return {'${Answer.Swapped}'}
`;

/** The parts that comparing operations share. */
const COMPARING = {
  returns: 'an array: SWAPPED | REFUSED, what is there if there is something | WRONG_TYPE',
  uses: [luaTypeOf],
  onCopy: `
  if stored == '${Answer.Swapped}' then return {stored} end
  return refused()
`,
  binary: true,
  reply: toValueAnswer,
  changed: ({ answer }: ValueAnswer): boolean => answer === Answer.Swapped,
};

/** The parts that operations share which answer with the value before. */
const GETTING = {
  keys: { value: 'a string' },
  keeping: keptValue,
  binary: true,
  reply: toValueAnswer,
  decode: found,
};

/**
 * Defines `write(key, value, ttl)`: sets the value, with a time to live as {@link TtlChange} says.
 */
const luaWrite = `
local function write(key, value, ttl)
  if ttl == '${TtlChange.Keep}' then
    redis.call('SET', key, value, 'KEEPTTL')
  elseif ttl == '${TtlChange.None}' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', ttl)
  end
end
`;

/** Replaces or deletes a value if it is the expected one. */
export const compareAndSet = defineOperation({
  ...COMPARING,
  type: 'values.compareAndSet',
  name: 'values.compareAndSwap',
  keys: { value: 'a string' },
  args: { ...SWAP_ARGS, ttl: 'keep | none | milliseconds' },
  uses: [luaTypeOf, luaWrite],
  prepare: luaCurrent('KEYS.value', 'string', "redis.call('GET', KEYS.value)"),
  lua: luaSwap(
    'string',
    `
if ARGV.hasNext == '' then
  redis.call('DEL', KEYS.value)
else
  write(KEYS.value, ARGV.next, ARGV.ttl)
end
`,
  ),
  check: (
    given: { key: string; expected: BinaryValue | null; next: BinaryValue },
    options: ValueWriteOptions,
  ) => {
    const ttl = checkWriteOptions('options', options);
    check.bytes('next', given.next);
    return { ...checkedSwap(given, options), ttl };
  },
  does: ({ key }) => `Changing ${describe(key)}`,
  encode: ({ key, expected, next, ttl }) => ({
    keys: { value: key },
    args: { ...swapArguments(expected, next), ttl },
  }),
  decode: (answer, call) => swapped(answer, call, 'string', toSet),
});

export const compareAndDelete = defineVariant(compareAndSet, {
  type: 'values.compareAndDelete',
  check: (given: { key: string; expected: BinaryValue }, options: ValueOptions) => {
    checkValueOptions('options', options);
    check.bytes('expected', given.expected);
    return { ...checkedSwap({ ...given, next: null }, options), ttl: '' };
  },
  decode: (answer, call) => swapped(answer, call, 'string', toDeleted),
});

/** Replaces or deletes a field of a hash if it is the expected one. */
export const compareAndSetField = defineOperation({
  ...COMPARING,
  type: 'values.compareAndSetField',
  name: 'values.compareAndSwapField',
  keys: { hash: 'a hash' },
  args: { field: 'bytes', ...SWAP_ARGS },
  prepare: luaCurrent('KEYS.hash', 'hash', "redis.call('HGET', KEYS.hash, ARGV.field)"),
  lua: luaSwap(
    'hash',
    `
if ARGV.hasNext == '' then
  redis.call('HDEL', KEYS.hash, ARGV.field)
else
  redis.call('HSET', KEYS.hash, ARGV.field, ARGV.next)
end
`,
  ),
  check: (
    given: { key: string; field: BinaryValue; expected: BinaryValue | null; next: BinaryValue },
    options: ValueOptions,
  ) => {
    check.bytes('next', given.next);
    return checkedFieldSwap(given, options);
  },
  does: ({ key }) => `Changing a field of ${describe(key)}`,
  encode: ({ key, field, expected, next }) => ({
    keys: { hash: key },
    args: { field, ...swapArguments(expected, next) },
  }),
  decode: (answer, call) => swapped(answer, call, 'hash', toSet),
});

export const compareAndDeleteField = defineVariant(compareAndSetField, {
  type: 'values.compareAndDeleteField',
  check: (given: { key: string; field: BinaryValue; expected: BinaryValue }, options: ValueOptions) => {
    check.bytes('expected', given.expected);
    return checkedFieldSwap({ ...given, next: null }, options);
  },
  decode: (answer, call) => swapped(answer, call, 'hash', toDeleted),
});

/** Replaces a value and answers with the one before. */
export const getAndSet = defineOperation({
  ...GETTING,
  type: 'values.getAndSet',
  args: { next: 'bytes', ttl: 'keep | none | milliseconds' },
  returns: 'an array: VALUE, value before | ABSENT | WRONG_TYPE',
  uses: [luaNoValue, luaWrite],
  lua: `
local answer = no_value(KEYS.value)
local ttl = ARGV.ttl
if answer then
  remember_answer(answer)
  if answer[1] == '${Answer.WrongType}' then return answer end
  if ttl == '${TtlChange.Keep}' then ttl = '${TtlChange.None}' end
else
  answer = {'${Answer.Value}', redis.call('GET', KEYS.value)}
  if ARGV.keepMarker ~= '' then
    if ttl == '${TtlChange.Keep}' then
      -- It goes away with the old value. One that ends in this millisecond is 0, which SET would not take.
      local left = tonumber(redis.call('PTTL', KEYS.value))
      ttl = left < 0 and '${TtlChange.None}' or string.format('%.0f', math.max(left, 1))
    end
    -- The first write: it needs memory, so where Redis has none left it is refused before the old value was taken away.
    redis.call('SET', KEYS.marker, '', 'PXAT', marker_end())
    take(KEYS.value)
  end
end
write(KEYS.value, ARGV.next, ttl)
return answer
`,
  check: ({ key, next }: { key: string; next: BinaryValue }, options: ValueWriteOptions) => {
    check.key('key', key);
    check.bytes('next', next);
    return { key, next, ttl: checkWriteOptions('options', options), encoding: options.encoding };
  },
  does: ({ key }) => `Setting ${describe(key)}`,
  encode: ({ key, next, ttl }) => ({ keys: { value: key }, args: { next, ttl } }),
});

/** Deletes a value and answers with it. */
export const getAndDelete = defineOperation({
  ...GETTING,
  type: 'values.getAndDelete',
  args: {},
  returns: 'an array: VALUE, the value | ABSENT | WRONG_TYPE',
  uses: [luaNoValue],
  lua: `
local none = no_value(KEYS.value)
if none then return remember_answer(none) end
local value = redis.call('GET', KEYS.value)
-- No write of this needs memory: where Redis has none left, all of them are made.
take(KEYS.value)
return {'${Answer.Value}', value}
`,
  check: ({ key }: { key: string }, options: ValueOptions) => {
    check.key('key', key);
    checkValueOptions('options', options);
    return { key, encoding: options.encoding };
  },
  does: ({ key }) => `Deleting ${describe(key)}`,
  encode: ({ key }) => ({ keys: { value: key }, args: {} }),
  changed: isFound,
});

/**
 * Changes a value's time to live and answers with the value. The marker holds a copy of the value,
 * which may have expired when a copy of the operation arrives.
 */
export const getAndExpire = defineOperation({
  ...GETTING,
  type: 'values.getAndExpire',
  args: {
    command: 'PEXPIRE | PEXPIREAT | PERSIST',
    timeMs: "milliseconds from now | milliseconds of Redis’s clock | ''",
  },
  returns: 'an array: VALUE, the value | ABSENT | WRONG_TYPE',
  uses: [luaNoValue],
  lua: `
local none = no_value(KEYS.value)
if none then return remember_answer(none) end
local answer = remember_answer({'${Answer.Value}', redis.call('GET', KEYS.value)})
if ARGV.command == 'PERSIST' then
  redis.call('PERSIST', KEYS.value)
elseif ARGV.command == 'PEXPIRE' then
  redis.call('PEXPIRE', KEYS.value, ARGV.timeMs)
else
  redis.call('PEXPIREAT', KEYS.value, ARGV.timeMs)
end
return answer
`,
  check: ({ key }: { key: string }, options: Expiry & ValueOptions) => {
    check.key('key', key);
    return { key, expiry: checkExpiry('options', options), encoding: options.encoding };
  },
  does: ({ key }) => `Expiring ${describe(key)}`,
  encode: ({ key, expiry }) => ({ keys: { value: key }, args: expiry }),
  changed: isFound,
});
