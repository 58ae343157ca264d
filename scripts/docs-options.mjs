import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import ts from 'typescript';
import { root, runAsMain, ScriptError } from './setup/process.mjs';

const PAGE = join(root, 'docs/options.md');
const ENTRIES = [
  'lib/index.ts',
  'lib/health/index.ts',
  'lib/throttler/index.ts',
  'lib/openapi/index.ts',
  'lib/testing/index.ts',
];
const WIDTH = 100;
/** An exported type of such a name has options. */
const IS_OPTIONS = /(?:Options|Defaults|Bounds)$/;
/** The module's own, in the order of their nesting; all others follow by name. */
const FIRST = [
  'AtomicRedisOptions',
  'AtomicRedisModuleExtras',
  'TransactionModuleOptions',
  'IdempotencyModuleOptions',
  'CounterModuleOptions',
  'QueueModuleOptions',
  'ScriptModuleOptions',
];

const INTRO = `# Options

Every option, with its type, its default and its unit. The names carry the units: \`…Ms\` is in
milliseconds, \`…Bytes\` in bytes, and what has neither is a count or a choice. A wrong value is
refused: the module's when the application starts, a call's when it is made. The message names the
option, the bound and the value received.

\`npm run docs:options\` writes this page from the types; a test compares the two.
`;

/** Writes docs/options.md from the exported types; with `--check` it compares, and changes nothing. */
await runAsMain(import.meta.url, async () => {
  const config = await resolveConfig(PAGE);
  const text = await format(pageOf(typesWithOptions()), { ...config, parser: 'markdown' });
  if (!process.argv.includes('--check')) {
    writeFileSync(PAGE, text);
    return 0;
  }
  if (readFileSync(PAGE, 'utf8') !== text)
    throw new ScriptError('docs/options.md does not match the types: run "npm run docs:options".');
  return 0;
});

/** Each exported type of options: its name, its text, its own options, and those that it has from elsewhere. */
function typesWithOptions() {
  const files = ENTRIES.map((entry) => join(root, entry));
  const { options } = ts.parseJsonConfigFileContent(
    ts.readConfigFile(join(root, 'lib/tsconfig.lib.json'), (path) => ts.sys.readFile(path)).config,
    ts.sys,
    join(root, 'lib'),
  );
  const program = ts.createProgram(files, options);
  const checker = program.getTypeChecker();
  const exported = files.flatMap((file) =>
    checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file))),
  );
  const symbols = exported
    .filter(({ name }) => IS_OPTIONS.test(name))
    .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol));
  const documented = new Set(symbols.map(({ name }) => name));
  return [...new Set(symbols)].map((symbol) => describe(symbol, checker, documented)).toSorted(byPlace);
}

function byPlace(a, b) {
  const [i, j] = [a, b].map(({ name }) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length));
  return i - j || (a.name < b.name ? -1 : 1);
}

function describe(symbol, checker, documented) {
  const own = [];
  const inherited = new Map();
  for (const property of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol))) {
    const declaration = property.declarations?.find(ts.isPropertySignature);
    if (!declaration) continue;
    const owner = declaration.parent.name?.text;
    if (owner !== symbol.name && documented.has(owner)) {
      inherited.set(owner, [...(inherited.get(owner) ?? []), property.name]);
    } else own.push(optionOf(property, declaration, checker));
  }
  return { name: symbol.name, text: textOf(symbol.getDocumentationComment(checker)), own, inherited };
}

function optionOf(property, declaration, checker) {
  const text = textOf(property.getDocumentationComment(checker));
  const tag = property.getJsDocTags(checker).find(({ name }) => name === 'default');
  return {
    name: property.name,
    type: declaration.type.getText().replaceAll(/\s+/g, ' ').replaceAll('| undefined', '').trim(),
    isRequired: !declaration.questionToken,
    fallback: tag && textOf(tag.text),
    unit: property.name.endsWith('Ms') ? 'ms' : property.name.endsWith('Bytes') ? 'bytes' : undefined,
    text,
  };
}

/** One paragraph; a program in a description stays in the reference. */
function textOf(parts) {
  return ts
    .displayPartsToString(parts)
    .replaceAll(/```[^]*?```/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

function pageOf(types) {
  return [
    INTRO,
    ...types.filter(({ own, inherited }) => own.length + inherited.size > 0).map(sectionOf),
  ].join('\n');
}

function sectionOf({ name, text, own, inherited }) {
  const also = [...inherited].map(([owner, names]) => {
    const list = names.map((one) => `\`${one}\``).join(', ');
    return wrapped(`Also ${list}: see [${owner}](#${owner.toLowerCase()}).`);
  });
  return [
    `## ${name}\n`,
    text && `${wrapped(text)}\n`,
    ...own.map(entryOf),
    ...also.map((one) => `\n${one}`),
  ].join('\n');
}

function entryOf({ name, type, isRequired, fallback, unit, text }) {
  const facts = [`\`${type}\``, unit, isRequired ? 'required' : fallback && `default ${fallback}`];
  return wrapped(`- **\`${name}\`** (${facts.filter(Boolean).join(', ')}). ${text}`.trim(), '  ');
}

/** Breaks at spaces outside of code. */
function wrapped(text, indent = '') {
  const words = text.match(/(?:`[^`]*`|\S)+/g);
  const lines = [''];
  for (const word of words) {
    const line = lines.at(-1);
    if (line.trim() === '') lines[lines.length - 1] = line + word;
    else if (line.length + 1 + word.length <= WIDTH) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(indent + word);
  }
  return lines.join('\n');
}
