import { defineQuery } from '../../operations/operation.js';
import { luaNow } from '../../scripting/lua.js';
import { INTENTS, keysOfSlot, ORDER, parseTransfer, type PendingTransfer } from './pending-transfer.js';
import type { Described } from './transfer-decision.js';

/** Reads one transfer as it is now; undefined if it is no longer listed. */
export const read = defineQuery({
  type: 'transfers.read',
  keys: { intents: INTENTS },
  args: { id: 'of the transfer' },
  returns: 'a string: "<state>,<amount>,<details>"; nil when there is none',
  lua: `return redis.call('HGET', KEYS.intents, ARGV.id)`,
  reply: (raw) => raw as string | null,
  check: (transfer: Described) => transfer,
  encode: ({ id, from }, space) => ({
    keys: { intents: keysOfSlot(space, space.slotOf(from)).intents },
    args: { id },
  }),
  decode: (intent, { id }): PendingTransfer | undefined =>
    intent === null ? undefined : parseTransfer(id, intent),
});

/** Reads a page of a slot's transfers, oldest first. */
export const list = defineQuery({
  type: 'transfers.list',
  keys: { intents: INTENTS, order: ORDER },
  args: {
    after: "the id that the page before ended with, or ''",
    minAgeMs: 'younger ones are left out; 0 for none, whatever the clock',
    limit: 'how many at most',
  },
  returns: 'an array of strings: for each transfer its id and "<state>,<amount>,<details>"',
  uses: [luaNow],
  lua: `
local first = '-'
if ARGV.after ~= '' then first = '(' .. ARGV.after end
local last = '+'
-- All ids of a millisecond are below it with a '.', the character after '-'.
if ARGV.minAgeMs ~= '0' then last = '(' .. string.format('%.0f', now_ms() - tonumber(ARGV.minAgeMs)) .. '.' end
local ids = redis.call('ZRANGEBYLEX', KEYS.order, first, last, 'LIMIT', '0', ARGV.limit)
local found = {}
for _, id in ipairs(ids) do
  local intent = redis.call('HGET', KEYS.intents, id)
  if intent then
    found[#found + 1] = id
    found[#found + 1] = intent
  end
end
return found
`,
  reply: (raw) => raw as string[],
  check: (page: { slot: number; after: string; minAgeMs: number; limit: number }) => page,
  encode: ({ slot, after, minAgeMs, limit }, space) => ({
    keys: keysOfSlot(space, slot),
    args: { after, minAgeMs, limit },
  }),
  decode: (flat) =>
    Array.from({ length: flat.length / 2 }, (_, i) => parseTransfer(flat[2 * i]!, flat[2 * i + 1]!)),
});
