import { describe } from '../atomic-redis.errors.js';
import { defineOperation, defineQuery } from '../operations/operation.js';
import { checkEnforceableOptions, type EnforceableOptions } from '../operations/operation.options.js';
import type { KeySpace } from '../scripting/key-space.js';
import { wrongType } from './limit-commands.js';
import { specificationOf } from './limit-batch.js';
import { keysOfLimit } from './limit-keys.js';
import { combined, foundIn, resultAfter, type LimitsResult } from './limit-result.js';
import { checkedName, type CheckedLimit, type LimitName } from './limit.js';
import { luaLimit, MORE, SWEEP_LIMIT, WRONG_TYPE } from './lua-limit.js';
import { luaTime } from '../scripting/lua.js';

export const LIMITS = 'for each: its state, and its reservations';
export const SPECIFICATIONS = 'for each "|<kind>,<modulus>,<capacity>,<its rest>,<price>,<its rest>"';

export const keysOfLimits = (limits: readonly CheckedLimit[], space: KeySpace): string[] =>
  limits.flatMap((limit) => {
    const { state, holds } = keysOfLimit(space, limit);
    return [state, holds];
  });

/** Reads limits. The result is undefined where more has lapsed than it may look at. */
export const peek = defineQuery({
  type: 'limits.peek',
  keys: { '...limits': LIMITS },
  args: { '...specifications': SPECIFICATIONS },
  returns: `a string: MORE | WRONG_TYPE,<index of the limit, from 0> | each limit, joined by "|"`,
  uses: [luaTime, luaLimit],
  lua: `
local parts, room = {}, ${SWEEP_LIMIT}
for i = ARGV.specifications, #ARGV do
  local n = i - ARGV.specifications
  local l = open(KEYS[KEYS.limits + 2 * n], KEYS[KEYS.limits + 2 * n + 1], specification(ARGV[i]), room)
  if l.problem then return l.problem .. string.format(',%.0f', n) end
  if l.more then return '${MORE}' end
  parts[n + 1], room = describe(l), room - l.swept
end
return table.concat(parts, '|')
`,
  reply: String,
  check: ({ limits }: { limits: readonly CheckedLimit[] }) => limits,
  encode: (limits, space) => ({
    callersKeys: limits.map(({ key }) => key),
    keys: { limits: keysOfLimits(limits, space) },
    args: { specifications: limits.map(specificationOf) },
  }),
  decode: (answer, limits): LimitsResult | undefined => {
    if (answer === MORE) return undefined;
    if (answer.startsWith(WRONG_TYPE)) throw wrongType(limits, answer);
    const parts = answer.split('|');
    return combined(
      limits,
      limits.map((limit, i) => resultAfter(limit, foundIn(limit, parts[i]!), 0)),
    );
  },
});

/** Forgets what was taken from a limit, and its reservations. */
export const reset = defineOperation({
  type: 'limits.reset',
  keys: { state: 'the limit', holds: 'its reservations' },
  args: {},
  returns: "a string: '1' | '0' where nothing was taken or reserved",
  lua: `
local answer = redis.call('EXISTS', KEYS.state) == 1 and '1' or '0'
remember(answer)
redis.call('DEL', KEYS.state)
redis.call('UNLINK', KEYS.holds)
return answer
`,
  reply: String,
  check: ({ limit }: { limit: LimitName }, options: EnforceableOptions) => {
    const name = checkedName(limit);
    checkEnforceableOptions('options', options);
    return name;
  },
  does: ({ key }) => `Resetting limit ${describe(key)}`,
  encode: (name, space) => ({ keys: keysOfLimit(space, name), args: {} }),
  decode: (answer) => answer === '1',
  changed: (answer) => answer === '1',
});
