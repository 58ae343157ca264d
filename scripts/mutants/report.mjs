import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { root } from '../setup/process.mjs';
import { readNamed, shortOf } from './named.mjs';
import { explanations, FOLDERS, readResults, SAMPLE, SECONDS, SEED, specsOf } from './folders.mjs';

const page = join(root, 'docs', 'mutants.md');

/** Writes docs/mutants.md from the results that are kept. */
export async function writeReport() {
  const reasons = explanations();
  const folders = Object.keys(FOLDERS)
    .map((folder) => ({ folder, ...readResults(folder) }))
    .filter(({ rows }) => rows.length > 0)
    .map((each) => ({ ...each, ...countsOf(each.rows, reasons) }));
  const text = [
    introduction,
    '## Scores',
    '',
    '| folder | mutants | sample | run | killed | equivalent | open | score | commit | date |',
    '| --- | --: | --: | --: | --: | --: | --: | --: | --- | --- |',
    ...folders.map(scoreRow),
    '',
    ...folders.flatMap(survivors(reasons)),
  ].join('\n');
  writeFileSync(
    page,
    await format(text, {
      ...(await resolveConfig(page)),
      parser: 'markdown',
      proseWrap: 'always',
      printWidth: 100,
    }),
  );
}

function countsOf(all, reasons) {
  const rows = all.filter(({ verdict }) => verdict !== 'invalid');
  const survived = rows.filter(({ verdict }) => verdict === 'survived');
  return {
    ran: rows.length,
    killed: rows.filter(({ verdict }) => verdict === 'killed').length,
    equivalent: survived.filter(({ id }) => reasons[id]),
    open: survived.filter(({ id }) => !reasons[id]),
    since: rows.filter(({ since }) => since),
  };
}

function scoreRow({ folder, sample, ran, killed, equivalent, open }) {
  const judged = ran - equivalent.length;
  const score = judged === 0 ? '–' : `${((100 * killed) / judged).toFixed(1)} %`;
  const counts = [sample.mutants, sample.sample, ran, killed, equivalent.length, open.length];
  return `| [${folder}](#${folder}) | ${counts.join(' | ')} | ${score} | ${sample.commit} | ${sample.date} |`;
}

const survivors =
  (reasons) =>
  ({ folder, rows, since, equivalent, open }) => {
    const specs = specsOf(folder);
    const byKind = (isLua) => {
      const those = rows.filter(
        ({ verdict, mutator }) => verdict !== 'invalid' && mutator.startsWith('Lua') === isLua,
      );
      return `${those.filter(({ verdict }) => verdict === 'killed').length} of ${those.length}`;
    };
    const list = (title, some, tell) => (some.length === 0 ? [] : [title, '', ...some.map(tell), '']);
    return [
      `### ${folder}`,
      '',
      `Tests: ${specs.length} spec files. Killed: ${byKind(false)} in TypeScript, ${byKind(true)} in Lua.`,
      '',
      ...list(
        'Killed since, by a test that was added or sharpened:',
        since,
        (row) => `- ${told(row)}: “${row.test}”`,
      ),
      ...list('Equivalent:', equivalent, (row) => `- ${told(row)}. ${reasons[row.id]}`),
      ...list('Open:', open, (row) => `- ${told(row)}${row.tried?.length ? '' : ' (no test reaches it)'}`),
    ];
  };

function told({ file, line, mutator, was, becomes }) {
  const code = (text) =>
    text.trim() === '' ? 'nothing' : `\`${text.trim().replaceAll('`', "'").split('\n', 1)[0]}\``;
  return `[${file.replace(/^lib\//, '')}:${line}](../${file}) ${mutator}: ${code(was)} → ${code(becomes)}`;
}

const introduction = `# Mutants

A test says something only if it fails when the code is wrong. So the code is made wrong, in one
place at a time, and the tests must notice. A change that no test notices survives: it shows a test
that is missing, or it changes nothing that anybody can see. This page is written by
\`npm run mutants -- --report\` from the results in \`test/mutants\`.

\`\`\`sh
npm run mutants -- limits               # goes on with the sample of lib/limits
npm run mutants -- limits --limit 10    # ten more of it
npm run mutants -- limits --again       # those that survived, once more
npm run mutants -- --named              # breaks named invariants, one at a time
npm run mutants -- --short              # ${shortOf(readNamed(root)).length} of those, quick ones: part of CI
\`\`\`

- **The mutants.** Stryker's mutators change the TypeScript: conditions, operators, calls, blocks,
  literals. Texts are left alone, since most are those of messages. A mutator of our own changes the
  Lua: it drops a call, swaps a comparison, drops an option such as \`PX\`, adds one to a number,
  turns \`+\`, \`and\`, \`or\`, \`not\`, \`true\` and \`false\` around. The numbers of \`KEYS\` and \`ARGV\` are left alone.
- **The sample.** ${SAMPLE} of each folder, drawn with the seed \`${SEED}\`. A mutant that Redis cannot
  compile is drawn again. The result of a mutant is kept while its method is as it was.
- **The tests.** The specs of the folder, and those of its [guarantees](guarantees.md). They run once
  with all mutants asleep, which tells the tests that reach each. Those alone run, the folder's own and
  the quickest first, on a real server, up to the first that fails.
- **The verdict.** Killed: a test failed that passes without the mutant, and it fails again by itself. A
  time-out counts only if the test passes right after without it. Equivalent ones are explained below and left out of the score.
  A survivor was given up after ${SECONDS} s of tests.
- **By name.** [named.json](../test/mutants/named.json) breaks one invariant each, and names the test
  that guards it. Killed: that test passes without the mutant and fails with it; anything else is an
  error. \`npm run guarantees\` checks that each still fits: its text is there once, and so is its test.
`;
