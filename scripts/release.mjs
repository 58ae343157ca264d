import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output, root, run, runAsMain, ScriptError } from './setup/process.mjs';

const unreleased = '## [Unreleased]';

const usage = `Usage: npm run release -- VERSION
  Makes the commit and the tag of a version, such as 0.2.0 or 1.0.0-rc.1. Publishes nothing.`;

/**
 * Makes the commit and the tag of a version, from a tree that is ready for it. Publishes nothing.
 */
await runAsMain(import.meta.url, usage, async () => {
  const [version] = process.argv.slice(2);
  if (!/^\d+\.\d+\.\d+(?:-[a-z]+\.\d+)?$/.test(version ?? '')) throw new ScriptError(usage);
  if (output('git', ['status', '--porcelain']) !== '')
    throw new ScriptError('There are changes that are not committed. Commit or drop them first.');
  if (output('git', ['branch', '--show-current']) !== 'main')
    throw new ScriptError('Releases are made from main.');
  if (output('git', ['tag', '--list', `v${version}`]) !== '')
    throw new ScriptError(`There is a tag v${version} already.`);
  const changelog = join(root, 'CHANGELOG.md');
  const dated = dateChangelog(readFileSync(changelog, 'utf8'), version);

  // Builds, packs and tries the package before anything is changed.
  for (const script of ['lint', 'format:check', 'typecheck', 'guarantees', 'build', 'smoke'])
    await run('npm', ['run', '--silent', script]);

  writeFileSync(changelog, dated);
  await run('npm', ['version', version, '--no-git-tag-version', '--allow-same-version']);
  await run('git', ['commit', '--all', '--message', `Release ${version}`]);
  await run('git', ['tag', '--annotate', `v${version}`, '--message', version]);
  console.log(
    `\nTagged v${version}. To publish: git push --follow-tags, then npm publish${version.includes('-') ? ' --tag next' : ''}`,
  );
});

/** Moves the text under "Unreleased" to the new version, with today's date. */
function dateChangelog(text, version) {
  const [before, rest] = text.split(`${unreleased}\n`);
  const notes = rest?.split(/^## /m, 1)[0].trim();
  if (!notes) throw new ScriptError(`CHANGELOG.md has nothing under "${unreleased}".`);
  const today = new Date().toISOString().slice(0, 10);
  return `${before}${unreleased}\n\n## [${version}] - ${today}\n${rest}`;
}
