import { UnsafeIntegerError, NotAnIntegerError } from '../../atomic-redis.errors.js';
import { defineOperation, defineStep } from '../../operations/operation.js';
import { luaNow } from '../../scripting/lua.js';
import { randomId } from '../../runtime/random-id.js';
import { Answer, luaBalance } from '../transfer-answer.js';
import { insufficientFunds } from '../transfer.errors.js';
import type { AcrossSlotsTransfer } from './across-slots.options.js';
import {
  decisionKey,
  detailsOf,
  INTENTS,
  keysOfSlot,
  ORDER,
  type TransferState,
} from './pending-transfer.js';
import { refusalOf, type DecisionOfTarget, type Described } from './transfer-decision.js';

const BALANCE = 'a signed 64-bit integer in decimal';

/** The answer when the amount was taken and the transfer was noted. */
const BEGUN = 'begun';

/** The answer when the transfer is gone: another process closed and removed it. */
const GONE = 'gone';

const luaLimit = `
if now_ms() > tonumber(ARGV.notAfterMs) then return 'TOO_LATE' end
`;

/** Takes the amount from its balance and notes its target, in one step. */
export const begin = defineOperation({
  type: 'transfers.begin',
  keys: { from: `the balance to take from, ${BALANCE}`, intents: INTENTS, order: ORDER },
  args: {
    nonce: 'makes the id unique',
    amount: 'above 0',
    min: 'what must be left',
    exact: "'n' if the balance must be exact as a double, else ''",
    details: 'for the process that finishes it, not read here',
  },
  returns: `a string: begun,<id>,<balance> with an id of "<milliseconds>-<nonce>"
| insufficient,<balance> | inexact | not-an-integer | wrong-type`,
  uses: [luaBalance],
  lua: `
local balance, _, problem = balance_at(KEYS.from)
if problem then return remember(problem) end
local left = int64_subtract(balance, int64_parse(ARGV.amount))
if int64_compare(left, int64_parse(ARGV.min)) < 0 then
  return remember('${Answer.InsufficientFunds},' .. int64_format(balance))
end
if ARGV.exact == 'n' and not int64_is_safe(left) then return remember('${Answer.Inexact}') end
-- Something else under these keys fails the script here, before it wrote anything.
redis.call('HLEN', KEYS.intents)
redis.call('ZCARD', KEYS.order)

local id = string.format('%.0f', time_ms) .. '-' .. ARGV.nonce
local answer = '${BEGUN},' .. id .. ',' .. int64_format(left)
remember(answer)
redis.call('HSET', KEYS.intents, id, 'open,' .. ARGV.amount .. ',' .. ARGV.details)
redis.call('ZADD', KEYS.order, '0', id)
redis.call('SET', KEYS.from, int64_format(left), 'KEEPTTL')
return answer
`,
  reply: String,
  check: (transfer: AcrossSlotsTransfer) => transfer,
  does: () => 'Moving an amount across slots',
  encode: (transfer, space) => {
    const { from, amount, min = 0 } = transfer;
    return {
      keys: { from, ...keysOfSlot(space, space.slotOf(from)) },
      args: {
        nonce: randomId('hex'),
        amount,
        min,
        exact: typeof amount === 'number' ? 'n' : '',
        details: detailsOf(transfer),
      },
    };
  },
  decode: (answer, transfer): { readonly id: string; readonly balance: string } => {
    const [kind, first = '', second = ''] = answer.split(',');
    const { from } = transfer;
    if (kind === Answer.InsufficientFunds) throw insufficientFunds(first, transfer);
    if (kind === Answer.Inexact) throw new UnsafeIntegerError(from, 'a bigint amount');
    if (kind === Answer.NotAnInteger) throw new NotAnIntegerError(from, 'other-string');
    if (kind === Answer.WrongType) throw new NotAnIntegerError(from, 'other-type');
    return { id: first, balance: second };
  },
});

/**
 * The target's answer: paid in, or refused for one of the reasons, which are final; or too late to
 * decide.
 */
const Decision = { Credited: 'credited', Refused: 'refused', Late: 'late' } as const;

/**
 * Pays the amount into the target, or refuses it. Its result is undefined if it came too late to
 * decide.
 */
export const decide = defineStep({
  type: 'transfers.decide',
  copies: 'what was decided first is the answer from then on',
  keys: { decision: 'of this transfer', to: `the balance to add to, ${BALANCE}` },
  args: {
    validUntilMs: `milliseconds of Redis’s clock, told before the transfer was seen open and never put off. Past it the transfer may have been
closed long enough for its decision to be forgotten, so nothing is decided`,
    amount: 'above 0',
    exact: "'n' if the balance must be exact as a double, else ''",
  },
  returns:
    'a string: late | credited,<balance> | refused,wrong-type | refused,not-an-integer | refused,overflow | refused,inexact',
  uses: [luaNow, luaBalance],
  lua: `
local stored = redis.call('GET', KEYS.decision)
if stored then return stored end
if now_ms() > tonumber(ARGV.validUntilMs) then return '${Decision.Late}' end

-- Without a time to live: it is needed for as long as the transfer is open, however long that is.
local function decide(answer)
  redis.call('SET', KEYS.decision, answer)
  return answer
end

local balance, _, problem = balance_at(KEYS.to)
if problem then return decide('${Decision.Refused},' .. problem) end
local reached = int64_add(balance, int64_parse(ARGV.amount))
if not int64_fits(reached) then return decide('${Decision.Refused},${Answer.Overflow}') end
if ARGV.exact == 'n' and not int64_is_safe(reached) then return decide('${Decision.Refused},${Answer.Inexact}') end
local answer = decide('${Decision.Credited},' .. int64_format(reached))
redis.call('SET', KEYS.to, int64_format(reached), 'KEEPTTL')
return answer
`,
  reply: String,
  check: (call: { transfer: Described; validUntilMs: number }) => call,
  does: () => 'Deciding a transfer',
  encode: ({ transfer, validUntilMs }, space) => {
    const { to, amount } = transfer;
    return {
      keys: { decision: decisionKey(space, transfer), to },
      args: { validUntilMs, amount, exact: typeof amount === 'number' ? 'n' : '' },
    };
  },
  decode: (answer): DecisionOfTarget | undefined => {
    const [kind, detail = ''] = answer.split(',');
    if (kind === Decision.Late) return undefined;
    return kind === Decision.Credited ? { balance: detail } : { refusal: detail };
  },
});

/**
 * Notes the end of a transfer, and gives the amount back if it was refused, in one step. A transfer
 * that is not open is left as it is. The result is the state of the transfer, reached now or
 * before; undefined if the transfer is gone.
 */
export const close = defineStep({
  type: 'transfers.close',
  copies: 'a transfer that was closed stays as it is',
  keys: { from: `the balance that the amount was taken from, ${BALANCE}`, intents: INTENTS },
  args: {
    notAfterMs: 'time limit, milliseconds of Redis’s clock',
    id: 'of the transfer',
    became: 'credited, or refunded to give the amount back',
  },
  returns:
    'a string: TOO_LATE | gone | credited | refunded (what it became, now or before) | wrong-type | not-an-integer | overflow',
  uses: [luaNow, luaBalance],
  lua: `${luaLimit}
local intent = redis.call('HGET', KEYS.intents, ARGV.id)
if not intent then return '${GONE}' end
local state, amount, details = string.match(intent, '^(%a+),(%d+),(.*)$')
if state ~= 'open' then return state end

local balance, _, problem
if ARGV.became == 'refunded' then
  balance, _, problem = balance_at(KEYS.from)
  if problem then return problem end
  balance = int64_add(balance, int64_parse(amount))
  if not int64_fits(balance) then return '${Answer.Overflow}' end
end
-- Needs memory, so that a full Redis refuses the script here.
redis.call('HSET', KEYS.intents, ARGV.id, ARGV.became .. ',' .. amount .. ',' .. details)
if balance then redis.call('SET', KEYS.from, int64_format(balance), 'KEEPTTL') end
return ARGV.became
`,
  reply: String,
  check: (call: { transfer: Described; decision: DecisionOfTarget }) => call,
  does: () => 'Closing a transfer',
  encode: ({ transfer: { id, from }, decision }, space) => ({
    keys: { from, intents: keysOfSlot(space, space.slotOf(from)).intents },
    args: { id, became: 'balance' in decision ? 'credited' : 'refunded' },
  }),
  decode: (answer, { transfer: { from, amount } }): TransferState | undefined => {
    if (answer === GONE) return undefined;
    if (answer === 'credited' || answer === 'refunded') return answer;
    throw refusalOf(answer, from, amount);
  },
});

/** Gives the target's decision a time to live. Only for a transfer that is closed. */
export const expireDecision = defineStep({
  type: 'transfers.expire-decision',
  copies: 'one that comes late does nothing',
  keys: { decision: 'of the transfer' },
  args: { notAfterMs: 'time limit, milliseconds of Redis’s clock', ttlMs: 'how long from now it is kept' },
  returns: 'a string: TOO_LATE | done',
  uses: [luaNow],
  lua: `${luaLimit}
redis.call('PEXPIRE', KEYS.decision, ARGV.ttlMs)
return 'done'
`,
  reply: String,
  check: (call: { transfer: Described; ttlMs: number }) => call,
  does: () => 'Forgetting a decision',
  encode: ({ transfer, ttlMs }, space) => ({
    keys: { decision: decisionKey(space, transfer) },
    args: { ttlMs },
  }),
  decode: () => undefined,
});

/** Removes a closed transfer from its slot's list. An open one stays. */
export const forget = defineStep({
  type: 'transfers.forget',
  copies: 'a transfer that is open stays',
  keys: { intents: INTENTS, order: ORDER },
  args: { notAfterMs: 'time limit, milliseconds of Redis’s clock', id: 'of the transfer' },
  returns: 'a string: TOO_LATE | done',
  uses: [luaNow],
  lua: `${luaLimit}
local intent = redis.call('HGET', KEYS.intents, ARGV.id)
if intent and string.match(intent, '^open,') then return 'done' end
redis.call('HDEL', KEYS.intents, ARGV.id)
redis.call('ZREM', KEYS.order, ARGV.id)
return 'done'
`,
  reply: String,
  check: (transfer: Described) => transfer,
  does: () => 'Forgetting a transfer',
  encode: ({ id, from }, space) => ({ keys: keysOfSlot(space, space.slotOf(from)), args: { id } }),
  decode: () => undefined,
});
