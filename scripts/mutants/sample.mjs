import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { setUpNode } from '../setup/node.mjs';
import { runNpm } from '../setup/npm.mjs';
import { root, ScriptError } from '../setup/process.mjs';
import { serversDirectory } from '../setup/servers.mjs';
import { luaMutants } from './lua-mutator.mjs';

/** Node.js 22 or later; not among the packages that everybody installs, for whom Node.js 20 is enough. */
const STRYKER = '@stryker-mutator/instrumenter@10.1.1';
const NODE = '24';

export const hash = (...texts) => createHash('sha1').update(texts.join('\0')).digest('hex').slice(0, 12);

/**
 * The code as the result of a mutant in it depends on it: the method, or the statement of the file, without comments.
 * Returns a function of the mutant's place.
 */
export function sourcesOf(text, path) {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const at = (nodes, start) => nodes.find((node) => node.getStart() <= start && start < node.getEnd());
  return (start) => {
    const statement = at(file.statements, start) ?? file;
    const code = (ts.isClassDeclaration(statement) && at(statement.members, start)) || statement;
    return hash(code.getText().replaceAll(/\/\*[\s\S]*?\*\/|^\s*(?:\/\/|--).*$|\s+/gm, ''));
  };
}

/**
 * All mutants of a folder of lib, in the order in which a seed draws them: the same change to the same text is the same
 * mutant, and keeps its place when others come or go. `texts` are the files with all of them in it, asleep and counted.
 */
export async function mutantsOf(folder, seed) {
  const files = readdirSync(join(root, 'lib', folder), { recursive: true })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => ({ path: `lib/${folder}/${name.replaceAll('\\', '/')}` }))
    .toSorted((a, b) => (a.path < b.path ? -1 : 1));
  for (const file of files) file.text = readFileSync(join(root, file.path), 'utf8');

  const directory = await setUpStryker();
  const node = process.env.MUTANTS_NODE ?? (await setUpNode(NODE));
  const ofLua = new Map(files.map(({ path, text }) => [path, luaMutants(text, path)]));
  const { mutants: plain } = instrument(node, directory, files);
  const numbers = new Map();
  const all = files.flatMap(({ path, text }) => {
    const sourceOf = sourcesOf(text, path);
    const found = [
      ...plain.filter(({ fileName }) => fileName === path).map((mutant) => placed(mutant, text)),
      ...ofLua.get(path),
    ];
    return found.map((mutant) => {
      const was = text.slice(mutant.start, mutant.end);
      const what = hash(path, mutant.mutator, was, mutant.becomes);
      const number = (numbers.get(what) ?? 0) + 1;
      numbers.set(what, number);
      return {
        id: hash(what, String(number)),
        file: path,
        line: text.slice(0, mutant.start).split('\n').length,
        ...mutant,
        was,
        source: sourceOf(mutant.start),
      };
    });
  });
  // Marks in the Lua move what stands behind them, and nothing else.
  const marked = files.map(({ path, text }) => ({ path, text: withMarks(text, all, path) }));
  const { texts, mutants: again } = instrument(node, directory, marked);
  if (again.length !== plain.length || again.some(({ id }, i) => id !== plain[i].id))
    throw new ScriptError('The marks in the Lua changed the mutants of the rest.');
  const keys = new Map(all.map(({ id }) => [id, hash(seed, id)]));
  return { mutants: all.toSorted((a, b) => (keys.get(a.id) < keys.get(b.id) ? -1 : 1)), texts };
}

/** Counts the folders that a spec has in common with a mutant. */
export function nearness({ file }, spec) {
  const [of, from] = [file, spec].map((path) => path.split('/').slice(1, -1));
  const apart = of.findIndex((name, i) => name !== from[i]);
  return apart === -1 ? of.length : apart;
}

/** The mark of a mutant in the Lua of a script that Redis is sent. Behind a minus it would be another comment without the space. */
export const mark = (id) => ` --[[m:${id}]]`;
export const marks = /--\[\[m:([0-9a-f]{12})\]\]/g;

function withMarks(text, mutants, path) {
  return mutants
    .filter(({ file, mutator }) => file === path && mutator.startsWith('Lua'))
    .toSorted((a, b) => b.start - a.start)
    .reduce((marked, { id, start }) => `${marked.slice(0, start)}${mark(id)}${marked.slice(start)}`, text);
}

function placed({ id, mutatorName, location, replacement }, text) {
  const lines = text.split('\n');
  const offset = ({ line, column }) =>
    lines.slice(0, line).reduce((sum, each) => sum + each.length + 1, 0) + column;
  const isExpression = mutatorName !== 'BlockStatement' && !/^(?:case |default:)/.test(replacement);
  return {
    stryker: id,
    mutator: mutatorName,
    start: offset(location.start),
    end: offset(location.end),
    becomes: isExpression ? `(${replacement})` : replacement,
  };
}

export const mutated = (text, { start, end, becomes }) => text.slice(0, start) + becomes + text.slice(end);

/** A change may leave no program, or none that a compiler of TypeScript takes for one. */
export function isProgram(text) {
  const { diagnostics } = ts.transpileModule(text, {
    reportDiagnostics: true,
    compilerOptions: { experimentalDecorators: true, target: ts.ScriptTarget.ES2022 },
  });
  return diagnostics.length === 0;
}

function instrument(node, directory, files) {
  const script = fileURLToPath(new URL('stryker-mutator.mjs', import.meta.url));
  const { status, stdout, stderr } = spawnSync(node, [script, directory], {
    input: JSON.stringify(files),
    encoding: 'utf8',
    maxBuffer: 1_000_000_000,
  });
  if (status !== 0) throw new ScriptError(`Stryker failed:\n${stderr}`);
  return JSON.parse(stdout);
}

async function setUpStryker() {
  const directory = join(serversDirectory(), 'stryker');
  if (!existsSync(join(directory, 'node_modules', STRYKER.slice(0, STRYKER.lastIndexOf('@')))))
    await runNpm([
      'install',
      ...['--no-save', '--no-audit', '--no-fund', '--loglevel=error', '--prefix', directory],
      STRYKER,
    ]);
  return directory;
}
