import { luaNow } from '../../redis/lua.js';
import { defineScript } from '../../redis/script.js';

/** Reads a page of a slot's transfers, oldest first. */
export const listScript = defineScript({
  name: 'transfers.list',
  keys: ['intents', 'order'],
  args: ['after', 'minAgeMs', 'limit'],
  reply: (raw) => {
    const flat = raw as string[];
    return Array.from({ length: flat.length / 2 }, (_, i) => ({
      id: flat[2 * i]!,
      intent: flat[2 * i + 1]!,
    }));
  },
  readOnly: true,
  lua: `
-- KEYS[1]  intents: of the slot, a hash of "<state>,<amount>,<details>" by id
-- KEYS[2]  order: of the slot, a sorted set of the same ids with equal scores
-- ARGV[1]  after: the id that the page before ended with, or ''
-- ARGV[2]  minAgeMs: younger ones are left out; 0 for none, whatever the clock
-- ARGV[3]  limit: how many at most
-- Returns an array of strings: for each transfer its id and "<state>,<amount>,<details>"
${luaNow}
local first = '-'
if ARGV[1] ~= '' then first = '(' .. ARGV[1] end
local last = '+'
-- All ids of a millisecond are below it with a '.', the character after '-'.
if ARGV[2] ~= '0' then last = '(' .. string.format('%.0f', now_ms() - tonumber(ARGV[2])) .. '.' end
local ids = redis.call('ZRANGEBYLEX', KEYS[2], first, last, 'LIMIT', '0', ARGV[3])
local found = {}
for _, id in ipairs(ids) do
  local intent = redis.call('HGET', KEYS[1], id)
  if intent then
    found[#found + 1] = id
    found[#found + 1] = intent
  end
end
return found
`,
});
