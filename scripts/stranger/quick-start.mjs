import { ScriptError } from '../setup/process.mjs';

/**
 * The steps of README's quick start: files to write, commands to type, and what these print. A code
 * block is the file that the text before it names last; the file that the text names first, where
 * it names two, is the example at the top of the page.
 */
export function quickStart(readme) {
  const [, section] = /^## Quick start\n([\s\S]*?)^## /m.exec(readme) ?? [];
  if (!section) throw new ScriptError('README.md has no section "Quick start".');
  const example = exampleOf(readme);
  const steps = [];
  for (const [, before, language, text] of section.matchAll(/([\s\S]*?)```(\w+)\n([\s\S]*?)```/g)) {
    if (language === 'sh') steps.push({ kind: 'commands', commands: text.trim().split('\n') });
    else if (language === 'text') steps.push({ kind: 'output', text, expected: patternOf(text) });
    else {
      const paths = [...before.matchAll(/`([\w./-]+\.(?:ts|json))`/g)].map(([, path]) => path);
      if (paths.length === 0)
        throw new ScriptError(`No file is named for this block of the quick start:\n${text}`);
      for (const path of paths.slice(0, -1)) steps.push({ kind: 'file', path, text: example });
      steps.push({ kind: 'file', path: paths.at(-1), text });
    }
  }
  return steps;
}

/** The first example of a page. */
export function exampleOf(page) {
  const [, example] = /```ts\n([\s\S]*?)```/.exec(page);
  return example;
}

/** The lines that README tells users of Jest to add, and the file that these name. */
export function jestFilesOf(readme) {
  const [, section] = /^## Install\n([\s\S]*?)^## /m.exec(readme) ?? [];
  const [config, tsconfig] = [...section.matchAll(/```json\n([\s\S]*?)```/g)].map(([, text]) => text);
  return { config: JSON.parse(config), tsconfig };
}

/** The lines in their order; `…` stands for any others. */
function patternOf(text) {
  const lines = text.trim().split('\n');
  return new RegExp(lines.map((line) => (line === '…' ? '[^]*?' : escape(line))).join('\\s*'));
}

const escape = (line) => line.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&');
