import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, ScriptError } from '../setup/process.mjs';
import { faultOf } from './judge.mjs';
import { hash, nearness } from './sample.mjs';
import { spread } from './tests.mjs';

const HOOKS = '(hooks)';
const cache = join(root, 'node_modules', '.cache', 'mutants');

/**
 * Runs each spec once with all mutants asleep. Returns, for a mutant, the tests that reach it by spec; all tests
 * of a spec where what is mutated runs before them.
 */
export async function whatReaches(trees, specs, texts, log) {
  const name = hash(...Object.entries(texts).flat());
  const reached = new Map();
  await spread(trees, specs, async (tests, spec) => {
    const file = join(cache, `${hash(name, spec, tests.read(spec))}.json`);
    if (!existsSync(file)) {
      const result = await tests.runWith(texts, { spec, counts: true });
      if (!result.coverage) throw new ScriptError(`${spec} tells nothing: ${faultOf(result)}`);
      log(`${spec}: ${result.passed} passed, ${result.failures.length} failed`);
      mkdirSync(cache, { recursive: true });
      writeFileSync(file, JSON.stringify(result));
    }
    reached.set(spec, JSON.parse(readFileSync(file, 'utf8')));
  });
  return (mutant) =>
    [...reached].flatMap(([spec, { times, coverage, failures }]) => {
      if (!coverage) return [];
      const names = namesReaching(mutant, coverage);
      const all = names.has(HOOKS) || names.has('');
      const failed = new Set(failures.map(({ test }) => test));
      const those = times.filter(([test]) => (all || names.has(test)) && !failed.has(test));
      return those.length === 0 ? [] : [{ spec, tests: those, own: nearness(mutant, spec) }];
    });
}

function namesReaching({ id, stryker }, { static: early = {}, perTest = {}, ofLua = {} }) {
  const names = new Set();
  if (stryker === undefined) {
    for (const [test, ids] of Object.entries(ofLua)) if (ids[id]) names.add(test);
  } else {
    if (early[stryker]) names.add('');
    for (const [test, ids] of Object.entries(perTest)) if (ids[stryker]) names.add(test);
  }
  return names;
}
