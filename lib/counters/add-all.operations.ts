import { describe, UnsafeIntegerError } from '../atomic-redis.errors.js';
import { defineOperation } from '../operations/operation.js';
import {
  checkEnforceableOptions,
  copyOperationOptions,
  type EnforceableOptions,
  type OperationOptions,
} from '../operations/operation.options.js';
import { randomId } from '../runtime/random-id.js';
import { addFlags, checkedAdditions, type CounterAddition } from './counter-arguments.js';
import { assertCounter, companionsOf } from './counter-keys.js';
import { parseResult, type CountersResult } from './counter-result.js';
import { CounterOverflowError } from './counter.errors.js';
import { CounterState, luaCounter, Refusal, SWEEP_LIMIT } from './lua-counter.js';

/** The number of arguments that describe one counter's add. */
const FIELDS_PER_ADD = 5;

export interface AddedToAll extends CountersResult {
  /** In which each counter's part can be undone. */
  readonly lives: readonly string[];
  /** The arguments of the call, for undoing it. */
  readonly operation: OperationOptions;
}

/**
 * Adds to several counters, to all of them or, when one is at a bound, to none. Everything is
 * judged before the first write. It has a marker of its own by which a copy is known, apart from
 * the sequences of the counters' batches, so it need not wait for its turn with any of them.
 */
export const addAll = defineOperation({
  type: 'counters.addAll',
  keys: { '...counters': 'for each: the counter, its life and its holds, as in counters.apply' },
  args: {
    lifeId: 'of lives that begin here, never used before',
    lifeTtlMs: 'how long an add can be undone',
    '...adds': `for each counter
+0 amount  to add
+1 min     lower bound or ''
+2 max     upper bound or ''
+3 ttlMs   time to live of a counter this creates, or ''
+4 detail  letters of c (clamp), s (sliding TTL), n (the result must be exact as a double), u (undoable)`,
  },
  returns: `a string: MORE | <refusal>,<index from 0> for NOT_AN_INTEGER, WRONG_TYPE, overflow and inexact; or
applied, or when nothing was done limited, and for each counter ,<value>:<applied>:<1 if limited, else 0>:<life if undoable and applied>`,
  uses: [luaCounter],
  lua: `
local first = KEYS.counters
local now, room = time_ms, ${SWEEP_LIMIT}
local counters, targets, at_bound = {}, {}, {}
local all_fit, more = true, false
for n = 1, math.floor((#KEYS - first + 1) / 3) do
  local k = first + 3 * (n - 1)
  local c = counter_open(KEYS[k], KEYS[k + 1], KEYS[k + 2], now, room)
  if c.problem then return remember(c.problem .. ',' .. string.format('%.0f', n - 1)) end
  counters[n], room, more = c, room - c.swept, more or c.more
end
if more then
  remember('${CounterState.More}')
  for _, c in ipairs(counters) do counter_store(c) end
  return '${CounterState.More}'
end

for n, c in ipairs(counters) do
  local i = ARGV.adds + (n - 1) * ${FIELDS_PER_ADD}
  local target, limited = counter_judge(c, int64_parse(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 4])
  if not target then return remember(limited .. ',' .. string.format('%.0f', n - 1)) end
  targets[n], at_bound[n] = target, limited
  if limited and not string.find(ARGV[i + 4], 'c', 1, true) then all_fit = false end
end

local answers = {all_fit and 'applied' or 'limited'}
for n, c in ipairs(counters) do
  local i = ARGV.adds + (n - 1) * ${FIELDS_PER_ADD}
  if all_fit then
    local applied, life = counter_move(c, targets[n], ARGV[i + 3], ARGV[i + 4], ARGV.lifeId)
    answers[n + 1] = counter_answer(targets[n], applied, at_bound[n], life)
  else
    local value = c.value or INT64_ZERO
    if string.find(ARGV[i + 4], 'n', 1, true) and not int64_is_safe(value) then
      return remember('${Refusal.Inexact},' .. string.format('%.0f', n - 1))
    end
    answers[n + 1] = counter_answer(value, INT64_ZERO, at_bound[n], '')
  end
end
local answer = table.concat(answers, ',')
local refused = ARGV.keepMarker ~= '' and create(KEYS.marker, answer, 'PXAT', marker_end())
for _, c in ipairs(counters) do refused = refused or counter_create(c) end
if refused then return refused end
for _, c in ipairs(counters) do counter_store(c, ARGV.lifeTtlMs) end
return answer
`,
  reply: String,
  check: (
    {
      adds: given,
      detail,
      lifeTtlMs,
    }: { adds: readonly CounterAddition[]; detail: '' | 'u'; lifeTtlMs: number },
    options: EnforceableOptions,
  ) => {
    const adds = checkedAdditions(given);
    checkEnforceableOptions('options', options);
    return { adds, detail, lifeTtlMs, operation: copyOperationOptions(options) };
  },
  does: ({ adds }) => `Changing ${adds.length} counters, ${describe(adds[0]?.key)} first,`,
  encode: ({ adds, detail, lifeTtlMs }, space) => ({
    callersKeys: adds.map(({ key }) => key),
    keys: {
      counters: adds.flatMap(({ key }) => {
        const { counter, life, holds } = companionsOf(space, key);
        return [counter, life, holds];
      }),
    },
    args: {
      lifeId: randomId('hex'),
      lifeTtlMs,
      adds: adds.flatMap(({ amount, min = '', max = '', ttlMs = '', ...rest }) =>
        [amount, min, max, ttlMs, detail + addFlags(amount, rest)].map(String),
      ),
    },
  }),
  isPartial: (answer) => answer === CounterState.More,
  decode: (answer, { adds, operation }): AddedToAll => ({ ...read(answer, adds), operation }),
  changed: (answer) => answer.startsWith('applied'),
});

/** @throws what the script refused it for */
function read(answer: string, adds: readonly CounterAddition[]): Omit<AddedToAll, 'operation'> {
  const [what, ...answers] = answer.split(',');
  if (what !== 'applied' && what !== 'limited') throw refusal(what!, adds[Number(answers[0])]!);
  const parsed = adds.map(({ key, amount }, i) => ({ key, ...parseResult(answers[i]!, amount) }));
  return {
    applied: what === 'applied',
    counters: parsed.map(({ key, result }) => ({ key, ...result })),
    lives: parsed.map(({ life }) => life),
  };
}

function refusal(what: string, { key, amount }: CounterAddition): Error {
  assertCounter(key, what);
  if (what === Refusal.Overflow) return new CounterOverflowError(key, amount);
  return new UnsafeIntegerError(key, 'a bigint amount');
}
