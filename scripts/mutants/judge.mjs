import { ScriptError } from '../setup/process.mjs';
import { isProgram, mutated } from './sample.mjs';

/** Sent to a Redis that cannot compile it, a mutant of Lua is no mutant. */
export const NOT_LUA = /Error compiling script/;
const DIED = '(died)';
const TIMED_OUT = /Exceeded timeout|thrown: "Exceeded/;

/** Loading a spec costs about as much as so long a test. */
const LOAD_MS = 1_000;
/** A test of another folder is worth so much less than one of the mutant's own. */
const OTHERS = 4;

/** Tries a mutant's tests, those of its own folder first, until one fails that passes without the mutant. */
export async function judge(tests, mutant, reaching, { maxMs, controls }) {
  const text = mutated(tests.read(mutant.file), mutant);
  if (!isProgram(text)) return { verdict: 'invalid' };
  const texts = { [mutant.file]: text };
  const tried = [];
  const { specs, cut } = quickest(reaching, maxMs);
  for (const { spec, tests: chosen, ms } of specs) {
    const result = await tests.runWith(texts, { spec, tests: chosen, bails: true });
    tried.push(spec);
    const failure = failureOf(result);
    if (!failure) continue;
    if (NOT_LUA.test(failure.message)) return { verdict: 'invalid' };
    const failed = chosen.filter(([test]) => test === failure.test);
    const alone = { spec, tests: failed.length > 0 ? failed : chosen, bails: true };
    if (!(await passes(tests, alone, failure, controls))) continue;
    // The machine may have been busy just then.
    if (!failureOf(await tests.runWith(texts, alone))) continue;
    return { verdict: 'killed', spec, test: failure.test, ms, why: failure.message };
  }
  return { verdict: 'survived', tried, ...(cut && { cut }) };
}

/** The tests that together last so long, beginning with the quickest; `cut` if there are more. */
function quickest(reaching, maxMs) {
  const all = reaching.flatMap(({ spec, tests, own }) =>
    tests.map(([test, ms]) => ({ spec, test, ms, rank: own > 0 ? ms : OTHERS * ms })),
  );
  const chosen = new Map();
  let left = maxMs;
  for (const { spec, test, ms } of all.toSorted((a, b) => a.rank - b.rank)) {
    const cost = chosen.has(spec) ? ms : ms + LOAD_MS;
    if (cost > left) continue;
    left -= cost;
    chosen.set(spec, [...(chosen.get(spec) ?? []), [test, ms]]);
  }
  const sum = (tests) => tests.reduce((total, [, ms]) => total + ms, 0);
  const specs = reaching
    .filter(({ spec }) => chosen.has(spec))
    .map(({ spec, own }) => ({ spec, own, tests: chosen.get(spec), ms: sum(chosen.get(spec)) }));
  return {
    specs: specs.toSorted((a, b) => b.own - a.own || a.ms - b.ms),
    cut: specs.reduce((count, { tests }) => count + tests.length, 0) < all.length,
  };
}

/** Returns the fault of a run of tests, or null if some ran and all passed. */
export function faultOf({ passed, ...result }) {
  const failure = failureOf(result);
  if (failure) return `${failure.test}: ${failure.message}`;
  return passed === 0 ? 'no test ran' : null;
}

function failureOf({ died, hung, broken, failures }) {
  if (died) return { test: DIED, message: `the process ended with ${died.code}\n${died.stderr}` };
  if (hung) return { test: '(hung)', message: 'Exceeded timeout' };
  if (failures.length > 0) return failures[0];
  return broken ? { test: '(load)', message: broken } : null;
}

/** A time-out may come from a busy machine: the test is tried again at once, each time. */
async function passes(tests, control, { test, message }, controls) {
  const key = `${control.spec}\0${test}`;
  if (controls.has(key) && !TIMED_OUT.test(message) && test !== DIED) return true;
  const result = await tests.run(control);
  const fault = faultOf(result);
  if (result.died) throw new ScriptError(`The tests do not start: ${fault}`);
  const passed = fault === null;
  if (passed) controls.add(key);
  return passed;
}
