import { luaTypeOf } from '../redis/lua.js';
import { defineScript } from '../redis/script.js';

/** How a log came back: its kind, and its entries, newest first where it is a stream and oldest first where it is a list. */
export interface RawHistory {
  readonly kind: string;
  readonly entries: readonly unknown[];
}

/** Reads a page of a log. */
export const historyScript = defineScript({
  name: 'auditedHashes.history',
  keys: ['log'],
  args: ['before', 'count'],
  readOnly: true,
  binary: true,
  reply: (raw): RawHistory => {
    const [kind, entries] = raw as [Buffer, unknown[]];
    return { kind: kind.toString(), entries };
  },
  lua: `
-- KEYS[1]  the log: a stream or a list, as auditedHashes.update writes them
-- ARGV[1]  before: id that the entries must be older than, or ''
-- ARGV[2]  count: how many entries, an integer
-- Returns an array: stream, entries newest first | list, entries oldest first | none or another type, empty array
${luaTypeOf}
local kind = type_of(KEYS[1])
if kind == 'stream' then
  local newest = '+'
  if ARGV[1] ~= '' then newest = '(' .. ARGV[1] end
  return {kind, redis.call('XREVRANGE', KEYS[1], newest, '-', 'COUNT', ARGV[2])}
end
if kind ~= 'list' then return {kind, {}} end

-- Ids of a list end in numbers without gaps, so that of the newest entry tells where any other is.
local skip = 0
if ARGV[1] ~= '' then
  local last = string.match(redis.call('LINDEX', KEYS[1], '-1'), '^%d+:%d+%-(%d+),')
  local before = string.match(ARGV[1], '%-(%d+)$')
  if last then skip = math.max(tonumber(last) - tonumber(before) + 1, 0) end
end
local from = string.format('%.0f', -skip - tonumber(ARGV[2]))
return {kind, redis.call('LRANGE', KEYS[1], from, string.format('%.0f', -skip - 1))}
`,
});
