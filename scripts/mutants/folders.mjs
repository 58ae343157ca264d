import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { specsByGuarantee } from '../guarantees/specs-by-guarantee.mjs';
import { root, ScriptError } from '../setup/process.mjs';
import { slowSpecs } from '../tests/slow-specs.mjs';

export const SEED = 'nestjs-atomic-redis';
export const SAMPLE = 150;
/** A mutant that so many seconds of tests do not notice has survived. */
export const SECONDS = 40;

/** The folders of lib whose tests are judged, each with the letters of its guarantees. */
export const FOLDERS = {
  limits: ['LM', 'TH'],
  permits: ['PM'],
  counters: ['CT'],
  operations: ['SC', 'PM'],
  transactions: ['TX', 'DFLY'],
  idempotency: ['ID'],
};

/** Specs that need the build, or last for the time they are given. */
const ELSEWHERE = /^test\/(?:soak|e2e|docs|browser|package|sentinel)\//;
const SLOW_SECONDS = 45;

/** They are about all services: the contract of their calls, and what a test puts in their place. */
const COMMON = ['test/operations/contract.spec.ts', 'test/testing/pass-through.spec.ts'];

/** The folder's own specs, and those that carry one of its guarantees in a title. */
export function specsOf(folder) {
  const found = new Set(COMMON);
  for (const [id, specs] of specsByGuarantee(root)) {
    for (const spec of specs) {
      const isOurs = spec.startsWith(`test/${folder}/`) || FOLDERS[folder].includes(id.split('-', 1)[0]);
      if (isOurs && !ELSEWHERE.test(spec) && !(slowSpecs[spec] >= SLOW_SECONDS)) found.add(spec);
    }
  }
  return [...found].toSorted((a, b) => (a < b ? -1 : 1));
}

export const directory = join(root, 'test', 'mutants');
const resultsFile = (folder) => join(directory, `${folder}.jsonl`);

/** The results of a folder: a line for the sample, and one for each of its mutants that has been run. */
export function readResults(folder) {
  const file = resultsFile(folder);
  if (!existsSync(file)) return { sample: null, rows: [] };
  const [sample, ...rows] = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  return { sample, rows };
}

export function writeResults(folder, { sample, rows }) {
  writeFileSync(resultsFile(folder), [sample, ...rows].map((row) => `${JSON.stringify(row)}\n`).join(''));
}

/** Reasons by mutant, for those that no test can tell from the code. */
export const explanations = () => JSON.parse(readFileSync(join(directory, 'equivalent.json'), 'utf8'));

export function checkFolder(folder) {
  if (!(folder in FOLDERS))
    throw new ScriptError(`No such folder: ${folder}. There are ${Object.keys(FOLDERS).join(', ')}.`);
}
