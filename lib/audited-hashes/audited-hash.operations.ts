import { describe, InvalidArgumentError, WrongTypeError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { defineOperation, defineQuery, defineVariant } from '../operations/operation.js';
import { decoded, type BinaryValue, type Encoding } from '../scripting/encoding.js';
import { luaTypeOf } from '../scripting/lua.js';
import { readListEntry, readStreamEntry, type AuditHistory } from './audit-entry.js';
import { NotAnAuditLogError } from './audited-hash.errors.js';
import {
  checkAuditOptions,
  checkChanges,
  checkHistoryOptions,
  type AuditHistoryOptions,
  type AuditOptions,
} from './audited-hash.options.js';
import { luaNetstrings, readNetstrings } from './netstrings.js';

type Change = readonly [field: string, value: BinaryValue | null];

/** A change of fields, checked. */
interface Update {
  readonly key: string;
  readonly changes: readonly Change[];
  readonly log: string;
  readonly logType: 'stream' | 'list';
  readonly maxEntries: number;
  readonly actor: string | undefined;
  readonly encoding: Encoding | undefined;
}

/** Answers of a script that did nothing. Any other answer begins with a digit or a hyphen. */
const Refusal = {
  HashType: 'HASH_WRONG_TYPE',
  LogType: 'LOG_WRONG_TYPE',
  Log: 'LOG_NOT_OURS',
} as const;

/** @throws InvalidArgumentError */
function checkedUpdate(key: string, given: unknown, options: AuditOptions): Update {
  check.key('key', key);
  const changes = checkChanges(given);
  checkAuditOptions(key, options);
  const { log, logType = 'stream', maxEntries = 1_000, actor, encoding } = options;
  return { key, changes, log, logType, maxEntries, actor, encoding };
}

function checkField(field: unknown): void {
  if (typeof field !== 'string') throw new InvalidArgumentError('field', 'a well-formed string', field);
}

/**
 * Reads the values before the change, in the order of the changes.
 * @throws the error that a refusal stands for
 */
function valuesBefore(answer: Buffer, { key, log, logType }: Update): (Buffer | null)[] {
  const before = readNetstrings(answer);
  if (before) return before;
  const refusal = answer.toString();
  if (refusal === Refusal.HashType) throw new WrongTypeError(key, 'hash');
  throw refusal === Refusal.LogType ? new WrongTypeError(log, logType) : new NotAnAuditLogError(log);
}

const decodedBefore = (answer: Buffer, call: Update): (BinaryValue | null)[] =>
  valuesBefore(answer, call).map((value) =>
    value ? decoded(value, { encoding: call.encoding }, { key: call.key, outcome: 'applied' }) : null,
  );

const firstBefore = (answer: Buffer, call: Update): BinaryValue | null =>
  decodedBefore(answer, call)[0] ?? null;

/** Changes fields of a hash and appends an entry for each to its log. */
export const update = defineOperation({
  type: 'auditedHashes.update',
  keys: {
    hash: 'a hash',
    log: `a stream with the fields field, old, new and actor, those without a value left out;
or a list of netstrings: id, field, old, new, actor; an id is milliseconds of Redis’s clock, a hyphen, and a number that counts up`,
  },
  args: {
    logType: 'stream | list',
    maxEntries: 'an integer',
    hasActor: "'1' or ''",
    actor: 'bytes',
    '...changes': `for each
+0 field  bytes
+1 kind   set | delete
+2 value  bytes`,
  },
  returns: 'HASH_WRONG_TYPE | LOG_WRONG_TYPE | LOG_NOT_OURS, or a netstring per change: the value before',
  uses: [luaTypeOf, luaNetstrings],
  lua: `
local kind = type_of(KEYS.hash)
if kind ~= 'hash' and kind ~= 'none' then return remember('${Refusal.HashType}') end
kind = type_of(KEYS.log)
if kind ~= ARGV.logType and kind ~= 'none' then return remember('${Refusal.LogType}') end

local last = 0
if kind == 'list' then
  local newest = redis.call('LINDEX', KEYS.log, '-1')
  last = tonumber(string.match(newest, '^%d+:%d+%-(%d+),'))
  if not last then return remember('${Refusal.Log}') end
end

local old = {}
local before = {}
for i = ARGV.changes, #ARGV, 3 do
  old[i] = redis.call('HGET', KEYS.hash, ARGV[i])
  before[#before + 1] = netstring(old[i])
end
local answer = remember(table.concat(before))

local actor = ARGV.hasActor == '1' and ARGV.actor
-- The first name is that of Lua 5.4, the second that of 5.1.
local spread = table.unpack or unpack

local function append_to_stream(field, old_value, new_value)
  local entry = {'XADD', KEYS.log, 'MAXLEN', ARGV.maxEntries, '*', 'field', field}
  local function add(name, value)
    if not value then return end
    entry[#entry + 1] = name
    entry[#entry + 1] = value
  end
  add('old', old_value)
  add('new', new_value)
  add('actor', actor)
  redis.call(spread(entry))
end

local now = string.format('%.0f', time_ms)
local function append_to_list(field, old_value, new_value)
  last = last + 1
  local id = now .. '-' .. string.format('%.0f', last)
  local entry = netstring(id) .. netstring(field) .. netstring(old_value) .. netstring(new_value) .. netstring(actor)
  redis.call('RPUSH', KEYS.log, entry)
end

local append = ARGV.logType == 'list' and append_to_list or append_to_stream
-- The log before the hash: an append needs memory, and is refused before anything was done where Redis has none left; deleting a field does not.
local deleted = {}
for i = ARGV.changes, #ARGV, 3 do
  local field, value = ARGV[i], ARGV[i + 1] == 'set' and ARGV[i + 2]
  if old[i] or value then append(field, old[i], value) end
  if value then
    redis.call('HSET', KEYS.hash, field, value)
  elseif old[i] then
    deleted[#deleted + 1] = field
  end
end
-- Last of all: a hash without fields is gone, and its time to live with it.
for _, field in ipairs(deleted) do redis.call('HDEL', KEYS.hash, field) end
if ARGV.logType == 'list' then redis.call('LTRIM', KEYS.log, '-' .. ARGV.maxEntries, '-1') end
return answer
`,
  binary: true,
  reply: (raw) => raw as Buffer,
  check: (
    { key, changes }: { key: string; changes: Readonly<Record<string, BinaryValue | null>> },
    options: AuditOptions,
  ) => checkedUpdate(key, changes, options),
  does: ({ key }) => `Changing ${describe(key)}`,
  encode: ({ key, changes, log, logType, maxEntries, actor }) => ({
    keys: { hash: key, log },
    args: {
      logType,
      maxEntries,
      hasActor: actor === undefined ? '' : '1',
      actor: actor ?? '',
      changes: changes.flatMap(([field, value]) => [field, value === null ? 'delete' : 'set', value ?? '']),
    },
  }),
  decode: (answer, call): Record<string, BinaryValue | null> => {
    const before = decodedBefore(answer, call);
    return Object.fromEntries(call.changes.map(([field], n) => [field, before[n] ?? null]));
  },
  // A call that only deletes fields that were not there changes nothing.
  changed: (answer, call) => {
    const before = valuesBefore(answer, call);
    return call.changes.some(([, value], n) => value !== null || before[n] !== null);
  },
});

export const set = defineVariant(update, {
  type: 'auditedHashes.set',
  check: (
    { key, field, value }: { key: string; field: string; value: BinaryValue },
    options: AuditOptions,
  ) => {
    check.bytes('value', value);
    checkField(field);
    return checkedUpdate(key, { [field]: value }, options);
  },
  decode: firstBefore,
});

export const remove = defineVariant(update, {
  type: 'auditedHashes.delete',
  check: ({ key, field }: { key: string; field: string }, options: AuditOptions) => {
    checkField(field);
    return checkedUpdate(key, { [field]: null }, options);
  },
  decode: firstBefore,
});

/** Reads a page of a log. */
export const history = defineQuery({
  type: 'auditedHashes.history',
  keys: { log: 'a stream or a list, as auditedHashes.update writes them' },
  args: { before: "id that the entries must be older than, or ''", count: 'how many entries, an integer' },
  returns:
    'an array: stream, entries newest first | list, entries oldest first | none or another type, empty array',
  uses: [luaTypeOf],
  lua: `
local kind = type_of(KEYS.log)
if kind == 'stream' then
  local newest = '+'
  if ARGV.before ~= '' then newest = '(' .. ARGV.before end
  return {kind, redis.call('XREVRANGE', KEYS.log, newest, '-', 'COUNT', ARGV.count)}
end
if kind ~= 'list' then return {kind, {}} end

-- Ids of a list end in numbers without gaps, so that of the newest entry tells where any other is.
local skip = 0
if ARGV.before ~= '' then
  local last = string.match(redis.call('LINDEX', KEYS.log, '-1'), '^%d+:%d+%-(%d+),')
  local before = string.match(ARGV.before, '%-(%d+)$')
  if last then skip = math.max(tonumber(last) - tonumber(before) + 1, 0) end
end
local from = string.format('%.0f', -skip - tonumber(ARGV.count))
return {kind, redis.call('LRANGE', KEYS.log, from, string.format('%.0f', -skip - 1))}
`,
  binary: true,
  reply: (raw) => {
    const [kind, entries] = raw as [Buffer, unknown[]];
    return { kind: kind.toString(), entries };
  },
  check: ({ log }: { log: string }, options: AuditHistoryOptions) => {
    check.key('log', log);
    checkHistoryOptions('options', options);
    const { limit = 100, before, encoding } = options;
    return { log, limit, before: before ?? '', encoding };
  },
  // One entry more than the page shows that there is a next page.
  encode: ({ log, limit, before }) => ({ keys: { log }, args: { before, count: limit + 1 } }),
  decode: ({ kind, entries }, { log, limit, encoding }): AuditHistory<BinaryValue> => {
    if (!['stream', 'list', 'none'].includes(kind)) throw new WrongTypeError(log, 'stream or list');
    const newestFirst = kind === 'list' ? entries.toReversed() : entries;
    const readEntry = kind === 'list' ? readListEntry : readStreamEntry;
    const page = newestFirst.slice(0, limit).map((entry) => readEntry(log, entry, { encoding }));
    return { entries: page, next: entries.length > limit ? page.at(-1)!.id : null };
  },
});
