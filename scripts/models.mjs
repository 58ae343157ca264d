import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, runAsMain, ScriptError } from './setup/process.mjs';

/**
 * Checks the models in spec/ with SPIN: `npm run models`, or `npm run models -- NAME` for some.
 *
 * Each model is searched in full within its bounds. Then each of its rules is switched off, and
 * SPIN must find a counterexample. `--print` prints them, `--markdown` prints the tables of
 * docs/proofs.md, `--record` writes the traces that test/models replays. `--skip-where-missing`
 * counts the searches as skipped where SPIN or a C compiler is missing; else that is an error.
 */
const { models } = JSON.parse(readFileSync(join(root, 'spec/models.json'), 'utf8'));
const traces = join(root, 'test/fixtures/traces');

const usage = `Usage: npm run models [-- NAME…] [--print | --markdown | --record] [--skip-where-missing]
  Searches the models of spec/ in full within their bounds, and then with each rule switched off.
  NAME                  some of spec/models.json; all of them by default
  --print               prints the counterexamples
  --markdown            prints the tables of docs/proofs.md
  --record              writes the traces that test/models replays
  --skip-where-missing  counts the searches as skipped where SPIN or a C compiler is missing`;

await runAsMain(import.meta.url, usage, async () => {
  const flags = process.argv.slice(2).filter((word) => word.startsWith('--'));
  const names = process.argv.slice(2).filter((word) => !word.startsWith('--'));
  const chosen = models.filter(({ name }) => names.length === 0 || names.includes(name));
  if (chosen.length < names.length) throw new ScriptError('No such model: see spec/models.json.');
  const missing = missingTools();
  if (missing && flags.includes('--skip-where-missing')) {
    console.log(missing);
    console.log(`0 passed, 0 failed, ${searchesOf(chosen, '').length} skipped`);
    return 0;
  }
  if (missing) throw new ScriptError(missing);
  const work = mkdtempSync(join(tmpdir(), 'models-'));
  try {
    if (flags.includes('--record')) return await record(chosen, work);
    const results = await inTurns(searchesOf(chosen, work));
    return report(results, flags);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});

function missingTools() {
  const missing = ['spin', 'cc'].filter((tool) => spawnSync(tool, ['-V'], { stdio: 'ignore' }).error);
  return missing.length > 0
    ? `The models need ${missing.join(' and ')}. Install what is missing: apt-get install spin gcc libc6-dev`
    : undefined;
}

function searchesOf(chosen, work) {
  return chosen.flatMap((model) => checksOf(model, work));
}

/** The searches of one model: of each configuration, and of each rule that is switched off. */
function checksOf({ name, checks, rules }, work) {
  return [
    ...checks.map((check) => ({ name, ...check, work })),
    ...rules.map((rule) => ({ name, ...rule, defines: [`NO_RULE_${rule.rule}`, ...rule.defines], work })),
  ];
}

/** As many at a time as there are processors. */
async function inTurns(checks) {
  const results = [];
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < checks.length; i = next++) results[i] = await search(checks[i], i);
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
  return results;
}

async function search(check, i) {
  const { name, defines, rule, depthFirst, work } = check;
  const folder = join(work, String(i));
  const file = `${name}.pml`;
  mkdirSync(folder);
  copyFileSync(join(root, 'spec', file), join(folder, file));
  const definitions = defines.map((define) => `-D${define}`);
  await run('spin', [...definitions, '-a', file], folder);
  // Breadth first finds a shortest counterexample.
  const mode = rule && !depthFirst ? ['-DBFS', '-DSAFETY'] : ['-DSAFETY'];
  await run(
    'cc',
    [rule ? '-O0' : '-O2', ...mode, '-DCOLLAPSE', '-DMEMLIM=3000', '-w', '-o', 'pan', 'pan.c'],
    folder,
  );
  const began = performance.now();
  const { output } = await run('./pan', ['-m200000'], folder, true);
  const errors = Number(/errors: (\d+)/.exec(output)?.[1] ?? NaN);
  const isComplete = !/Search not completed|out of memory|max search depth too small/.test(output);
  let trail = [];
  if (errors > 0)
    trail = trailOf((await run('spin', [...definitions, '-t', '-T', file], folder, true)).output);
  return {
    ...check,
    errors,
    states: Number(/(\S+) states, stored/.exec(output)?.[1] ?? NaN),
    depth: Number(/depth reached (\d+)/.exec(output)?.[1] ?? NaN),
    seconds: (performance.now() - began) / 1_000,
    trail,
    passed: rule ? errors > 0 && trail.length > 0 : errors === 0 && isComplete,
    output,
  };
}

/** The steps of a counterexample, as the model prints them, without SPIN's own lines. */
function trailOf(text) {
  return (
    text
      .split('\n')
      .map((line) => line.trimEnd())
      .filter(
        (line) =>
          /^[a-zA-Z0-9]/.test(line) &&
          !/^(spin: (trail|\S+pml:\d+, Error)|\d+ process|\d+:|timeout|#proc|---|depth-limit)/.test(line),
      )
      .map((line) => line.replace(/^spin: text of failed assertion: /, 'violated: '))
      // One is enough: the replay of a trail goes on behind it.
      .filter((line, i, lines) => !isViolation(line) || lines.findIndex(isViolation) === i)
  );
}

function isViolation(line) {
  return line.startsWith('violated: ');
}

function report(results, flags) {
  let passed = 0;
  for (const result of results) {
    const { name, title, rule, states, depth, errors, seconds } = result;
    if (result.passed) passed++;
    const numbers = `${states} states, depth ${depth}, ${errors} errors, ${seconds.toFixed(1)} s`;
    console.log(
      `${result.passed ? 'ok     ' : 'FAILED '} ${name}: ${rule ? `without ${rule}` : title}: ${numbers}`,
    );
    if (!result.passed) console.log(result.output);
    if ((rule && flags.includes('--print')) || (!rule && errors > 0))
      for (const step of result.trail) console.log(`          ${step}`);
  }
  if (flags.includes('--markdown')) console.log(markdown(results));
  console.log(`${passed} passed, ${results.length - passed} failed`);
  return passed === results.length ? 0 : 1;
}

function markdown(results) {
  const rules = results.filter(({ rule }) => rule);
  return rules
    .map(({ rule, title, trail }) => `**${rule}** ${title}\n\n\`\`\`\n${trail.join('\n')}\n\`\`\`\n`)
    .join('\n');
}

/**
 * Writes the traces that are replayed: the counterexamples' model at random, a seed each. Of the
 * seeds beyond `seeds`, up to `rare.seeds`, only those in which a step is `rare.step`.
 */
async function record(chosen, work) {
  mkdirSync(traces, { recursive: true });
  for (const { name, traced = [], keeps } of chosen) {
    const file = `${name}.pml`;
    copyFileSync(join(root, 'spec', file), join(work, file));
    for (const { to, defines, seeds, rare } of traced) {
      const all = [];
      for (let seed = 1; seed <= (rare?.seeds ?? seeds); seed++) {
        const definitions = defines.map((define) => `-D${define}`);
        const { output } = await run('spin', [...definitions, '-T', '-u2000', `-n${seed}`, file], work, true);
        const steps = trailOf(output).filter((line) => new RegExp(keeps).test(line));
        if (seed <= seeds || steps.some((line) => new RegExp(rare.step).test(line)))
          all.push(`# seed ${seed}`, ...steps);
      }
      writeFileSync(join(traces, `${to}.txt`), `${all.join('\n')}\n`);
    }
  }
  return 0;
}

function run(command, args, cwd, mayFail = false) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0 || mayFail) resolve({ code, output });
      else reject(new ScriptError(`${command} failed in ${cwd}:\n${output}`));
    });
  });
}
