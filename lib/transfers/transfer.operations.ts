import {
  UnsafeIntegerError,
  InvalidArgumentError,
  NotAnIntegerError,
  WrongTypeError,
} from '../atomic-redis.errors.js';
import { luaCreate } from '../operations/lua-operation.js';
import { defineOperation, defineVariant } from '../operations/operation.js';
import { luaTypeOf } from '../scripting/lua.js';
import { Answer, luaBalance } from './transfer-answer.js';
import { BalanceOverflowError, insufficientFunds } from './transfer.errors.js';
import {
  checkedTransfer,
  checkTransferOptions,
  MAX_LEGS,
  type Balances,
  type Transfer,
  type TransferAudit,
  type TransferOptions,
} from './transfer.options.js';

/** The number of arguments that describe one leg. */
const FIELDS_PER_LEG = 5;

/** Movements between balances, checked. */
interface Legs {
  readonly legs: readonly Required<Transfer>[];
  /** The balances, each once, and after them the log where there is one. */
  readonly keys: readonly string[];
  readonly audit: Omit<TransferAudit, 'log'> | undefined;
}

/** @throws InvalidArgumentError */
function checkedLegs(legs: readonly Required<Transfer>[], options: TransferOptions): Legs {
  checkTransferOptions(options, legs);
  const balances = [...new Set(legs.flatMap(({ from, to }) => [from, to]))];
  if (!options.audit) return { legs, keys: balances, audit: undefined };
  const { log, ...audit } = options.audit;
  return { legs, keys: [...balances, log], audit };
}

/**
 * Moves amounts between balances, leg by leg, all or none. Every leg is judged before the first
 * write.
 */
export const transferAll = defineOperation({
  type: 'transfers.transferAll',
  name: 'transfers.transfer',
  keys: {
    '...keys':
      'the balances, signed 64-bit integers in decimal, each once; after them the log, a stream, where there is to be one',
  },
  args: {
    balanceCount: 'how many of the keys are balances',
    keyPrefixBytes: 'how much of each key is the client’s key prefix, which the log leaves out',
    maxEntries: "of the log, or '' for any number",
    reference: "for the log, or ''",
    '...legs': `each
+0 from     which of the balances, from 1
+1 to       likewise
+2 amount   above 0
+3 min      what must be left in from
+4 exact    'n' if both balances must be exact as a double, else ''`,
  },
  returns: `a string: moved,<from>:<to>,… (the balances after each leg)
| insufficient,<leg from 0>,<balance> | overflow,<leg> | inexact,<leg>,<from or to>
| not-an-integer,<which key> | wrong-type,<which key>`,
  uses: [luaCreate, luaBalance, luaTypeOf],
  lua: `
local first = KEYS.keys - 1
local count = tonumber(ARGV.balanceCount)
local log = KEYS[first + count + 1]
local balances, is_new = {}, {}
for i = 1, count do
  local problem
  balances[i], is_new[i], problem = balance_at(KEYS[first + i])
  if problem then return remember(problem .. ',' .. i) end
end
local log_type = log and type_of(log)
if log and log_type ~= 'stream' and log_type ~= 'none' then
  return remember('${Answer.WrongType},' .. (count + 1))
end

local answers = {}
for i = ARGV.legs, #ARGV, ${FIELDS_PER_LEG} do
  local leg = '' .. #answers
  local from, to = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local amount = int64_parse(ARGV[i + 2])
  local left, reached = int64_subtract(balances[from], amount), int64_add(balances[to], amount)
  if int64_compare(left, int64_parse(ARGV[i + 3])) < 0 then
    return remember('${Answer.InsufficientFunds},' .. leg .. ',' .. int64_format(balances[from]))
  end
  if not int64_fits(reached) then return remember('${Answer.Overflow},' .. leg) end
  if ARGV[i + 4] == 'n' then
    if not int64_is_safe(left) then return remember('${Answer.Inexact},' .. leg .. ',from') end
    if not int64_is_safe(reached) then return remember('${Answer.Inexact},' .. leg .. ',to') end
  end
  balances[from], balances[to] = left, reached
  answers[#answers + 1] = int64_format(left) .. ':' .. int64_format(reached)
end
local answer = '${Answer.Moved},' .. table.concat(answers, ',')

local refused = ARGV.keepMarker ~= '' and create(KEYS.marker, answer, 'PXAT', marker_end())
for i = 1, count do
  if is_new[i] and not refused then refused = create(KEYS[first + i], int64_format(balances[i])) end
end
if refused then return refused end

-- A stream which takes no entry, or has no memory for it, fails the script with nothing done.
local function append(...)
  if ARGV.reference == '' then return redis.pcall('XADD', log, '*', ...) end
  return redis.pcall('XADD', log, '*', 'reference', ARGV.reference, ...)
end
if log then
  local now, prefix = string.format('%.0f', time_ms), tonumber(ARGV.keyPrefixBytes)
  local function key_of(place) return string.sub(KEYS[first + tonumber(place)], prefix + 1) end
  for leg = 1, #answers do
    local i = ARGV.legs + (leg - 1) * ${FIELDS_PER_LEG}
    local from_balance, to_balance = string.match(answers[leg], '^(.*):(.*)$')
    local from, to = key_of(ARGV[i]), key_of(ARGV[i + 1])
    local entry = append('from', from, 'to', to, 'amount', ARGV[i + 2], 'fromBalance', from_balance, 'toBalance', to_balance, 'atMs', now)
    if type(entry) == 'table' then
      take_back(entry)
      if leg == 1 then return entry end
      error(entry.err)
    end
  end
end
for i = 1, count do
  if not is_new[i] then redis.call('SET', KEYS[first + i], int64_format(balances[i]), 'KEEPTTL') end
end
if log and ARGV.maxEntries ~= '' then redis.call('XTRIM', log, 'MAXLEN', ARGV.maxEntries) end
return answer
`,
  reply: String,
  check: (legs: readonly Transfer[], options: TransferOptions): Legs => {
    if (!Array.isArray(legs) || legs.length === 0 || legs.length > MAX_LEGS)
      throw new InvalidArgumentError('legs', `an array of 1 to ${MAX_LEGS} transfers`, legs);
    // A map call would skip the holes of a sparse array.
    const checked = Array.from(legs as readonly Transfer[], (leg, i) => checkedTransfer(`legs[${i}]`, leg));
    return checkedLegs(checked, options);
  },
  does: () => 'Moving an amount between balances',
  encode: ({ legs, keys, audit }, { keyPrefix }) => {
    const positions = new Map(keys.map((key, i) => [key, i + 1]));
    return {
      keys: { keys },
      args: {
        balanceCount: audit ? keys.length - 1 : keys.length,
        keyPrefixBytes: Buffer.byteLength(keyPrefix),
        maxEntries: audit?.maxEntries ?? '',
        reference: audit?.reference ?? '',
        legs: legs.flatMap(({ from, to, amount, min }) => [
          positions.get(from)!,
          positions.get(to)!,
          amount,
          min,
          typeof amount === 'number' ? 'n' : '',
        ]),
      },
    };
  },
  decode: balancesAfter,
});

export const transfer = defineVariant(transferAll, {
  type: 'transfers.transfer',
  check: (leg: Transfer, options: TransferOptions) =>
    checkedLegs([checkedTransfer('transfer', leg)], options),
  decode: (answer, call) => balancesAfter(answer, call)[0]!,
});

/** @throws the error that a refusal stands for */
function balancesAfter(answer: string, { legs, keys }: Legs): Balances[] {
  const [kind, ...rest] = answer.split(',');
  if (kind === Answer.Moved) {
    return rest.map((balances, i) => {
      const [from = '', to = ''] = balances.split(':');
      const convert = typeof legs[i]!.amount === 'bigint' ? BigInt : Number;
      return { from: convert(from), to: convert(to) };
    });
  }
  const [index = '', detail = ''] = rest;
  if (kind === Answer.NotAnInteger) throw new NotAnIntegerError(keys[Number(index) - 1]!, 'other-string');
  if (kind === Answer.WrongType) {
    const key = keys[Number(index) - 1]!;
    const isLog = !legs.some(({ from, to }) => from === key || to === key);
    throw isLog ? new WrongTypeError(key, 'stream') : new NotAnIntegerError(key, 'other-type');
  }
  const leg = Number(index);
  const { from, to, amount } = legs[leg]!;
  if (kind === Answer.InsufficientFunds) throw insufficientFunds(detail, legs[leg]!, leg);
  if (kind === Answer.Overflow) throw new BalanceOverflowError(to, amount, leg);
  throw new UnsafeIntegerError(detail === 'from' ? from : to, 'a bigint amount');
}
