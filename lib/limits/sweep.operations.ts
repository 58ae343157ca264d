import { describe } from '../atomic-redis.errors.js';
import { defineStep } from '../operations/operation.js';
import { specificationOf } from './limit-batch.js';
import { keysOfLimits, LIMITS, SPECIFICATIONS } from './limit.operations.js';
import type { CheckedLimit } from './limit.js';
import { luaLimit, MORE, SWEEP_LIMIT } from './lua-limit.js';
import { luaTime } from '../scripting/lua.js';

/** Gives back what has lapsed, where it is too much for a call that only reads. */
export const sweep = defineStep({
  type: 'limits.sweep',
  keys: { '...limits': LIMITS },
  args: { '...specifications': SPECIFICATIONS },
  returns: 'a string: MORE | swept',
  copies: 'what has lapsed is given back by the one that deletes it',
  uses: [luaTime, luaLimit],
  lua: `
local room, more = ${SWEEP_LIMIT}, false
for i = ARGV.specifications, #ARGV do
  local n = i - ARGV.specifications
  local l = open(KEYS[KEYS.limits + 2 * n], KEYS[KEYS.limits + 2 * n + 1], specification(ARGV[i]), room)
  room, more = room - l.swept, more or l.more
  if l.swept > 0 then
    local text, ends = text_of(l)
    store(l, text, ends)
  end
end
return more and '${MORE}' or 'swept'
`,
  reply: String,
  check: ({ limits }: { limits: readonly CheckedLimit[] }) => limits,
  does: (limits) => `Giving back what has lapsed of limit ${describe(limits[0]!.key)}`,
  encode: (limits, space) => ({
    callersKeys: limits.map(({ key }) => key),
    keys: { limits: keysOfLimits(limits, space) },
    args: { specifications: limits.map(specificationOf) },
  }),
  isPartial: (answer) => answer === MORE,
  decode: () => undefined,
});
