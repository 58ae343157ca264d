import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { titlesIn } from '../guarantees/test-titles.mjs';
import { ScriptError } from '../setup/process.mjs';
import { faultOf, NOT_LUA } from './judge.mjs';
import { isProgram } from './sample.mjs';

/** CI breaks at least so many. */
export const SHORT = 6;

/** The mutants that break an invariant by name. A tree without the file has none. */
export const readNamed = (root) => JSON.parse(read(root, 'test/mutants/named.json') ?? '[]');

/** Chooses the mutants with `short`: several folders, quick tests with the same end each time. */
export function shortOf(named) {
  const chosen = named.filter(({ short }) => short);
  if (chosen.length < SHORT)
    throw new ScriptError(
      `test/mutants/named.json has ${chosen.length} mutants with "short": at least ${SHORT} are needed.`,
    );
  return chosen;
}

/** Tells in what a mutant no longer fits the code or the specs of a tree, without running a test. */
export function misfitsOf({ name, file, replace, with: becomes, spec, title }, root) {
  const found = [];
  const text = read(root, file);
  const count = text === null ? 0 : text.split(replace).length - 1;
  if (text === null) found.push(`${file} does not exist`);
  else if (count !== 1) found.push(`${file} has its text ${count} times instead of once`);
  else if (!isProgram(text.replace(replace, () => becomes))) found.push(`it leaves no program of ${file}`);
  const tests = read(root, spec);
  if (tests === null) found.push(`${spec} does not exist`);
  else if (!titlesIn(tests, spec).some((source) => mayRead(source, title)))
    found.push(`no test of ${spec} has the title "${title}"`);
  return found.map((misfit) => `mutant ${name}: ${misfit}`);
}

/**
 * Runs the test of a mutant without it and with it. Returns `killed`, `survived`, or what went
 * wrong: only a failure of that test shows that it noticed.
 */
export async function judgeNamed(tests, mutant) {
  const { file, replace, with: becomes, spec, title } = mutant;
  const misfits = misfitsOf(mutant, tests.tree);
  if (misfits.length > 0) return misfits.join('; ');
  const request = { spec, matching: title };
  const control = await tests.run(request);
  const fault = faultOf(control);
  if (control.died) throw new ScriptError(`The tests do not start: ${fault}`);
  if (fault) return `${spec} fails without a mutant: ${fault}`;
  const result = await tests.runWith({ [file]: tests.read(file).replace(replace, () => becomes) }, request);
  const { failures, passed } = result;
  const isOwn = failures.length > 0 && failures.every(({ test }) => test.includes(title));
  if (isOwn) return NOT_LUA.test(failures[0].message) ? `it leaves no Lua in ${file}` : 'killed';
  return passed > 0 && !faultOf(result) ? 'survived' : `not by its test: ${faultOf(result)}`;
}

/** A title in source text has holes, for what a table or a template fills in. */
function mayRead(source, title) {
  const parts = source
    .slice(1, -1)
    .replaceAll(/\\(.)/g, '$1')
    .split(/\$\{[^}]*\}|%[a-zA-Z#]|\$[\w.]+/);
  if (parts.some((part) => part.includes(title))) return true;
  if (parts[0] === '' || !title.startsWith(parts[0])) return false;
  let from = 0;
  for (const part of parts) {
    const at = title.indexOf(part, from);
    if (at === -1) return false;
    from = at + part.length;
  }
  return true;
}

function read(root, path) {
  try {
    return readFileSync(join(root, path), 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}
