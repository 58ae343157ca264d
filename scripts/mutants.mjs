import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import {
  checkFolder,
  explanations,
  FOLDERS,
  readResults,
  SAMPLE,
  SECONDS,
  SEED,
  specsOf,
  writeResults,
} from './mutants/folders.mjs';
import { judge } from './mutants/judge.mjs';
import { judgeNamed, readNamed, shortOf } from './mutants/named.mjs';
import { whatReaches } from './mutants/reach.mjs';
import { writeReport } from './mutants/report.mjs';
import { mutantsOf } from './mutants/sample.mjs';
import { spread, Tests } from './mutants/tests.mjs';
import { output, root, runAsMain, ScriptError } from './setup/process.mjs';
import { setup } from './setup.mjs';

const TREES = 2 * availableParallelism();

const usage = `Usage: npm run mutants -- folder…          goes on with the sample of folders of lib: ${Object.keys(FOLDERS).join(', ')}
       npm run mutants -- --named [name…]  the mutants of test/mutants/named.json, or some
       npm run mutants -- --short          those of it that are quick: part of CI
       npm run mutants -- --report         only writes docs/mutants.md
  --limit n   stops after so many mutants of a folder
  --again     runs those again that survived without an explanation
  --quick s   gives up a mutant after so many seconds of tests; ${SECONDS} by default
  --trees n   so many mutants at a time, which mostly wait; ${TREES} by default`;

await runAsMain(import.meta.url, usage, async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      named: { type: 'boolean', default: false },
      short: { type: 'boolean', default: false },
      report: { type: 'boolean', default: false },
      again: { type: 'boolean', default: false },
      limit: { type: 'string', default: String(SAMPLE) },
      quick: { type: 'string', default: String(SECONDS) },
      trees: { type: 'string', default: String(TREES) },
    },
  });
  if (values.report) return writeReport();
  if (!values.named && !values.short && positionals.length === 0) throw new ScriptError(usage);
  const isNamed = values.named || values.short;
  const named = values.short ? shortOf(readNamed(root)) : isNamed ? namedBy(positionals) : [];
  const env = await setup({ needServer: true, ownServer: true });
  process.once('SIGINT', () => process.exit(130)).once('SIGTERM', () => process.exit(143));
  const trees = Array.from({ length: isNamed ? 1 : Number(values.trees) }, () => new Tests(env));
  try {
    if (isNamed) return await runNamed(trees[0], named);
    for (const folder of positionals) {
      checkFolder(folder);
      await runSample(trees, folder, values);
    }
    await writeReport();
  } finally {
    for (const tests of trees) tests.remove();
  }
  return 0;
});

/** Goes on where the last run of the folder stopped. A changed method makes only its own mutants run again. */
async function runSample(trees, folder, { again, limit, quick }) {
  const { mutants, texts } = await mutantsOf(folder, SEED);
  const rows = keptRows(folder, mutants);
  const earlier = new Map(rows);
  if (again) for (const id of openIn(rows).slice(0, Number(limit))) rows.delete(id);
  const reaching = await whatReaches(trees, specsOf(folder), texts, (line) => console.log(line));
  const controls = new Set();
  await spread(trees, drawn(mutants, rows, Number(limit)), async (tests, mutant) => {
    const result = await judge(tests, mutant, reaching(mutant), { maxMs: Number(quick) * 1_000, controls });
    rows.set(mutant.id, rowOf(mutant, result, earlier.get(mutant.id)));
    console.log(
      `${result.verdict}  ${mutant.file}:${mutant.line} ${mutant.mutator} ${mutant.id}  ${result.test ?? ''}${told(result)}`,
    );
    const known = mutants.map(({ id }) => rows.get(id) ?? earlier.get(id)).filter(Boolean);
    writeResults(folder, { sample: sampleOf(folder, mutants), rows: known });
  });
}

/** The results that still hold, with the places that the mutants have now. */
function keptRows(folder, mutants) {
  const all = new Map(readResults(folder).rows.map((row) => [row.id, row]));
  return new Map(
    mutants
      .filter(({ id, source }) => all.get(id)?.source === source)
      .map(({ id, line, start, end }) => [id, { ...all.get(id), line, start, end }]),
  );
}

function openIn(rows) {
  const reasons = explanations();
  return [...rows].flatMap(([id, { verdict }]) => (verdict === 'survived' && !reasons[id] ? [id] : []));
}

/** Yields what the sample lacks. One that turns out to be no mutant makes place for the next. */
function* drawn(mutants, rows, limit) {
  const begun = new Set();
  for (let ran = 0; ran < limit; ran++) {
    const sample = mutants.filter(({ id }) => rows.get(id)?.verdict !== 'invalid').slice(0, SAMPLE);
    const next = sample.find(({ id }) => !rows.has(id) && !begun.has(id));
    if (!next) return;
    begun.add(next.id);
    yield next;
  }
}

function sampleOf(folder, mutants) {
  return {
    folder,
    seed: SEED,
    mutants: mutants.length,
    sample: Math.min(SAMPLE, mutants.length),
    commit: output('git', ['rev-parse', '--short', 'HEAD'], { cwd: root }),
    date: new Date().toISOString().slice(0, 10),
  };
}

function told({ why }) {
  return why ? `: ${why.replaceAll(/\s+/g, ' ').slice(0, 120)}` : '';
}

function rowOf({ id, file, line, mutator, start, end, was, becomes, source }, result, earlier) {
  const { verdict, spec, test, ms, tried, cut } = result;
  return {
    ...{ id, file, line, mutator, start, end, was: was.split('\n', 1)[0].slice(0, 100), becomes, source },
    ...{ verdict, spec, test, ms, tried, cut },
    ...(earlier?.verdict === 'survived' && verdict === 'killed' && { since: true }),
  };
}

/** Each breaks an invariant, and the test that guards it must fail. What no longer fits is an error among the others. */
async function runNamed(tests, mutants) {
  let killed = 0;
  for (const mutant of mutants) {
    const verdict = await judgeNamed(tests, mutant);
    if (verdict === 'killed') killed++;
    const what = `${mutant.name} [${mutant.guarantee}]: ${mutant.invariant}`;
    if (verdict === 'killed') console.log(`killed    ${what}`);
    else if (verdict === 'survived') console.log(`SURVIVED  ${what}`);
    else console.log(`ERROR     ${what}\n  ${verdict}`);
  }
  console.log(`${killed} passed, ${mutants.length - killed} failed`);
  return killed === mutants.length ? 0 : 1;
}

function namedBy(names) {
  const all = readNamed(root);
  const unknown = names.find((name) => !all.some((mutant) => mutant.name === name));
  if (unknown) throw new ScriptError(`No mutant is called ${unknown}: see test/mutants/named.json.`);
  return all.filter(({ name }) => names.length === 0 || names.includes(name));
}
