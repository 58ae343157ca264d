import { describe } from '../atomic-redis.errors.js';
import { defineOperation } from '../operations/operation.js';
import { specificationOf } from './limit-batch.js';
import { keysOfLimit } from './limit-keys.js';
import { wrongType } from './limit-commands.js';
import { foundIn, resultAfter, resultOf, type LimitResult } from './limit-result.js';
import { checkedLimit } from './limit.js';
import { luaLimit, SWEEP_LIMIT, WRONG_TYPE } from './lua-limit.js';

/** A hit on a limit whose refusal blocks its callers for a while. */
interface Hit {
  readonly key: string;
  readonly limit: number;
  readonly perMs: number;
  /** The time for which a refusal blocks; 0 for as long as the limit itself refuses. */
  readonly blockMs: number;
}

/** The result of a hit. */
export interface HitResult {
  readonly limit: LimitResult;
  /** When the block ends, in milliseconds from now; 0 when the hit was let through. */
  readonly blockedForMs: number;
}

/** Takes 1 from a sliding limit, or blocks. */
export const throttle = defineOperation({
  type: 'limits.throttle',
  keys: {
    limit: 'its state',
    holds: 'its reservations',
    block: 'there while it is blocked',
  },
  args: { specification: '"|<kind>,<modulus>,<capacity>,<its rest>,<price>,<its rest>"', blockMs: "or '0'" },
  returns: 'a string: WRONG_TYPE,0 | passed|<the limit before> | blocked:<ms>|<the limit>',
  uses: [luaLimit],
  lua: `
local spec = specification(ARGV.specification)
local l = open(KEYS.limit, KEYS.holds, spec, ${SWEEP_LIMIT})
if l.problem then return remember(l.problem .. ',0') end
local text = describe(l)
-- Refusals that write nothing are not remembered, or a client that floods would fill the memory. A late copy may be judged
-- anew: it counts one hit too many at most, and lets none pass.
local left = redis.call('PTTL', KEYS.block)
if left > 0 then return string.format('blocked:%.0f|', left) .. text end
if fits(l, spec, 1) == 0 then
  if ARGV.blockMs == '0' then return 'blocked:0|' .. text end
  remember('blocked:' .. ARGV.blockMs .. '|' .. text)
  -- Once the block is over, hits begin anew.
  redis.call('SET', KEYS.block, '', 'PX', ARGV.blockMs)
  redis.call('DEL', KEYS.limit)
  return 'blocked:' .. ARGV.blockMs .. '|' .. text
end
remember('passed|' .. text)
charge(l, spec, 1)
local value, ends = text_of(l)
store(l, value, ends)
return 'passed|' .. text
`,
  reply: String,
  check: ({ key, limit, perMs, blockMs }: Hit) => ({
    limit: checkedLimit('limit', { key, algorithm: 'sliding', limit, perMs }),
    blockMs,
  }),
  does: ({ limit: { key } }) => `Taking from limit ${describe(key)}`,
  encode: ({ limit, blockMs }, space) => {
    const { state, holds } = keysOfLimit(space, limit);
    return {
      callersKeys: [limit.key],
      keys: { limit: state, holds, block: space.colocated(`limit-block:${limit.perMs}`, limit.key) },
      args: { specification: specificationOf(limit), blockMs },
    };
  },
  decode: (answer, { limit }): HitResult => {
    if (answer.startsWith(WRONG_TYPE)) throw wrongType([limit], answer);
    const [verdict, text] = answer.split('|') as [string, string];
    const found = foundIn(limit, text);
    if (verdict === 'passed') return { limit: resultOf(limit, found, 1), blockedForMs: 0 };
    const refused = resultAfter(limit, found, 0);
    return {
      limit: refused,
      blockedForMs: Math.max(1, Number(verdict.split(':')[1]) || refused.retryAfterMs),
    };
  },
});
