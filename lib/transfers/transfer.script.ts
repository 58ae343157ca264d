import { luaInt64 } from '../redis/lua-int64.js';
import { luaTypeOf } from '../redis/lua.js';
import { luaCreate, luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';

/** How many arguments describe one leg. */
export const FIELDS_PER_LEG = 5;

/** What the script answers first. After anything but `Moved` nothing was changed. */
export const Answer = {
  Moved: 'moved',
  InsufficientFunds: 'insufficient',
  /** A balance would not fit into 64 bits. */
  Overflow: 'overflow',
  /** A balance would not be exact as a JavaScript number. */
  Inexact: 'inexact',
  /** A key holds a string that is no 64-bit integer as Redis spells one. */
  NotAnInteger: 'not-an-integer',
  /** A key is of another type than its use asks for. */
  WrongType: 'wrong-type',
} as const;

/** Moves amounts between balances, leg after leg, all or none of them. Everything is judged before the first write. */
export const transferScript = defineScript({
  name: 'transfers.transfer',
  keys: ['marker', '...keys'],
  args: ['notAfterMs', 'keepMarker', 'balanceCount', 'keyPrefixBytes', 'maxEntries', 'reference', '...legs'],
  reply: String,
  lua: `
-- KEYS[1]  marker: of this operation
-- KEYS[2…] keys: the balances, signed 64-bit integers in decimal, each once; after them the log, a stream, where there is to be one
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1', or '' for no marker
-- ARGV[3]  balanceCount: how many of the keys are balances
-- ARGV[4]  keyPrefixBytes: how much of each key is the client's key prefix, which the log leaves out
-- ARGV[5]  maxEntries: of the log, or '' for any number
-- ARGV[6]  reference: for the log, or ''
-- ARGV[7…] legs, each:
--   +0 from     which of the balances, from 1
--   +1 to       likewise
--   +2 amount   above 0
--   +3 min      what must be left in from
--   +4 exact    'n' if both balances must be exact as a double, else ''
-- Returns a string: TOO_LATE | moved,<from>:<to>,… (the balances after each leg)
--   | insufficient,<leg from 0>,<balance> | overflow,<leg> | inexact,<leg>,<from or to>
--   | not-an-integer,<which key> | wrong-type,<which key>
${luaOperation}${luaCreate}${luaInt64}${luaTypeOf}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

local count = tonumber(ARGV[3])
local log = KEYS[count + 2]
local balances, is_new = {}, {}
for i = 1, count do
  local text = redis.pcall('GET', KEYS[i + 1])
  if type(text) == 'table' then return remember('${Answer.WrongType},' .. i) end
  local balance = INT64_ZERO
  if text then balance = int64_parse(text) else is_new[i] = true end
  if not balance then return remember('${Answer.NotAnInteger},' .. i) end
  balances[i] = balance
end
local log_type = log and type_of(log)
if log and log_type ~= 'stream' and log_type ~= 'none' then
  return remember('${Answer.WrongType},' .. (count + 1))
end

local answers = {}
for i = 7, #ARGV, ${FIELDS_PER_LEG} do
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

local refused = ARGV[2] ~= '' and create(KEYS[1], answer, 'PXAT', marker_end())
for i = 1, count do
  if is_new[i] and not refused then refused = create(KEYS[i + 1], int64_format(balances[i])) end
end
if refused then return refused end

-- A stream which takes no entry, or has no memory for it, fails the script with nothing done.
local function append(...)
  if ARGV[6] == '' then return redis.pcall('XADD', log, '*', ...) end
  return redis.pcall('XADD', log, '*', 'reference', ARGV[6], ...)
end
if log then
  local now, prefix = string.format('%.0f', now_ms()), tonumber(ARGV[4])
  for leg = 1, #answers do
    local i = 7 + (leg - 1) * ${FIELDS_PER_LEG}
    local from_balance, to_balance = string.match(answers[leg], '^(.*):(.*)$')
    local from, to = string.sub(KEYS[tonumber(ARGV[i]) + 1], prefix + 1), string.sub(KEYS[tonumber(ARGV[i + 1]) + 1], prefix + 1)
    local entry = append('from', from, 'to', to, 'amount', ARGV[i + 2], 'fromBalance', from_balance, 'toBalance', to_balance, 'atMs', now)
    if type(entry) == 'table' then
      take_back(entry)
      if leg == 1 then return entry end
      error(entry.err)
    end
  end
end
for i = 1, count do
  if not is_new[i] then redis.call('SET', KEYS[i + 1], int64_format(balances[i]), 'KEEPTTL') end
end
if log and ARGV[5] ~= '' then redis.call('XTRIM', log, 'MAXLEN', ARGV[5]) end
return answer
`,
});
