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
/** A type of such a name has options. */
const IS_OPTIONS = /(?:Options|Defaults|Extras)$/;
/** The module's own, in the order of their nesting; all others follow by name. */
const FIRST = [
  'AtomicRedisOptions',
  'AtomicRedisModule.forRoot',
  'AtomicRedisOptions.transactions',
  'AtomicRedisOptions.idempotency',
  'AtomicRedisOptions.counters',
  'AtomicRedisOptions.queues',
  'AtomicRedisOptions.limits',
  'AtomicRedisOptions.permits',
  'AtomicRedisOptions.scripts',
];

const INTRO = `# Options

Every option, with its type, its default and its unit. The names carry the units: \`…Ms\` is in
milliseconds, \`…Bytes\` in bytes, and what has neither is a count or a choice. A wrong value is
refused: the module's when the application starts, a call's when it is made. The message names the
option, the bound and the value received.

A heading names an exported type, or the place of options whose type has no exported name: name
that type by its place, such as \`AtomicRedisOptions['counters']\`, or
\`Parameters<IdempotencyService['forget']>[1]\`.

\`npm run docs:options\` writes this page from the types; a test compares the two.
`;

const usage = `Usage: npm run docs:options [-- --check]
  Writes docs/options.md from the exported types.
  --check  compares them, and changes nothing`;

/**
 * Writes docs/options.md from the exported types; with `--check` it compares, and changes nothing.
 */
await runAsMain(import.meta.url, usage, async () => {
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

/**
 * Each type of options: its heading, its text, its own options, and those that it has from
 * elsewhere.
 */
function typesWithOptions() {
  const files = ENTRIES.map((entry) => join(root, entry));
  const { options } = ts.parseJsonConfigFileContent(
    ts.readConfigFile(join(root, 'lib/tsconfig.lib.json'), (path) => ts.sys.readFile(path)).config,
    ts.sys,
    join(root, 'lib'),
  );
  const program = ts.createProgram(files, options);
  const checker = program.getTypeChecker();
  const exported = files
    .flatMap((file) => checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file))))
    .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol));
  const headings = new Map(
    exported.filter(({ name }) => IS_OPTIONS.test(name)).map((symbol) => [symbol, symbol.name]),
  );
  for (const symbol of exported) addPlaces(symbol, headings, checker);
  const headingOf = new Map([...headings].map(([symbol, heading]) => [symbol.name, heading]));
  // Options that the module shares with its calls stand with the module's.
  for (const [symbol, heading] of headings) {
    if (!heading.startsWith('AtomicRedisOptions.')) continue;
    for (const base of checker.getDeclaredTypeOfSymbol(symbol).getBaseTypes() ?? [])
      if (!headingOf.has(base.symbol.name)) headingOf.set(base.symbol.name, heading);
  }
  return [...headings.keys()].map((symbol) => describe(symbol, headingOf, checker)).toSorted(byPlace);
}

/** Adds the types of options that have no exported name, by the first place where they stand. */
function addPlaces(symbol, headings, checker) {
  const place = (name, type) => {
    for (const found of optionTypesIn(type)) {
      if (headings.has(found)) continue;
      headings.set(found, name);
      addPlaces(found, headings, checker);
    }
  };
  const placeParameters = (name, type) => {
    for (const signature of type.getCallSignatures())
      for (const parameter of signature.parameters) place(name, checker.getTypeOfSymbol(parameter));
  };
  const { name, flags } = symbol;
  const heading = headings.get(symbol) ?? name;
  if (flags & ts.SymbolFlags.Function) placeParameters(`${name}`, checker.getTypeOfSymbol(symbol));
  const members =
    flags & ts.SymbolFlags.Class ? checker.getPropertiesOfType(checker.getTypeOfSymbol(symbol)) : [];
  if (flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Interface | ts.SymbolFlags.TypeAlias))
    members.push(...checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol)));
  for (const member of members) {
    const type = checker.getTypeOfSymbol(member);
    if (headings.has(symbol)) place(`${heading}.${member.name}`, type);
    else if (!isHidden(member)) placeParameters(`${heading}.${member.name}`, type);
  }
}

/** True for what users do not see of a class. */
function isHidden(member) {
  return member.declarations?.some(
    (declaration) =>
      ts.getCombinedModifierFlags(declaration) & ts.ModifierFlags.Private ||
      ts.getJSDocTags(declaration).some(({ tagName }) => tagName.text === 'internal'),
  );
}

/** Returns the library's types of options among the parts of a type. */
function optionTypesIn(type) {
  if (type.isUnionOrIntersection() && !type.aliasSymbol) return type.types.flatMap(optionTypesIn);
  if (type.aliasSymbol?.name === 'Partial') return type.aliasTypeArguments.flatMap(optionTypesIn);
  const symbol = type.aliasSymbol ?? type.symbol;
  const isOwn = symbol?.declarations?.some((one) =>
    one.getSourceFile().fileName.startsWith(join(root, 'lib/')),
  );
  return isOwn && IS_OPTIONS.test(symbol.name) ? [symbol] : [];
}

function byPlace(a, b) {
  const [i, j] = [a, b].map(({ name }) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length));
  return i - j || (a.name < b.name ? -1 : 1);
}

function describe(symbol, headingOf, checker) {
  const name = headingOf.get(symbol.name);
  const own = [];
  const inherited = new Map();
  for (const property of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol))) {
    const declaration = property.declarations?.find(ts.isPropertySignature);
    if (!declaration) continue;
    const owner = declaration.parent.name?.text;
    const heading = headingOf.get(owner);
    if (owner !== symbol.name && heading && heading !== name) {
      inherited.set(heading, [...(inherited.get(heading) ?? []), property.name]);
    } else own.push(optionOf(property, declaration, headingOf, checker));
  }
  return { name, text: textOf(symbol.getDocumentationComment(checker)), own, inherited };
}

function optionOf(property, declaration, headingOf, checker) {
  const text = textOf(property.getDocumentationComment(checker));
  const tag = property.getJsDocTags(checker).find(({ name }) => name === 'default');
  return {
    name: property.name,
    type: typeTextOf(declaration.type, headingOf, checker)
      .replaceAll(/\s+/g, ' ')
      .replaceAll('| undefined', '')
      .trim(),
    isRequired: !declaration.questionToken,
    fallback: tag && textOf(tag.text),
    unit: property.name.endsWith('Ms') ? 'ms' : property.name.endsWith('Bytes') ? 'bytes' : undefined,
    text,
  };
}

/** The text of a type, with each type that has no exported name written out, or named by its place. */
function typeTextOf(node, headingOf, checker) {
  const text = node.getText();
  const start = node.getStart();
  let written = '';
  let from = 0;
  const visit = (part) => {
    if (ts.isTypeReferenceNode(part) && ts.isIdentifier(part.typeName)) {
      const instead = writtenOut(checker.getSymbolAtLocation(part.typeName), headingOf, checker);
      if (instead !== undefined) {
        written += text.slice(from, part.getStart() - start) + instead;
        from = part.getEnd() - start;
        return;
      }
    }
    ts.forEachChild(part, visit);
  };
  visit(node);
  return written + text.slice(from);
}

function writtenOut(given, headingOf, checker) {
  const symbol = given.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(given) : given;
  const [declaration] = symbol.declarations ?? [];
  if (!declaration || !ts.getJSDocTags(declaration).some(({ tagName }) => tagName.text === 'inline'))
    return undefined;
  if (headingOf.has(symbol.name)) return headingOf.get(symbol.name);
  if (ts.isTypeAliasDeclaration(declaration) && !declaration.typeParameters)
    return typeTextOf(declaration.type, headingOf, checker);
  const properties = checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol));
  // The compiler numbers names that are symbols, and counts on with each change of the code.
  const names = properties.map(({ name }) => name).filter((name) => !name.startsWith('__@'));
  return `{ ${names.join(', ')} }`;
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
    return wrapped(`Also ${list}: see [${owner}](#${owner.toLowerCase().replaceAll('.', '')}).`);
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
