import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Application, Converter, ReflectionKind } from 'typedoc';
import { root, runAsMain, ScriptError } from './setup/process.mjs';

const out = join(root, 'docs-site');

const usage = `Usage: npm run docs:site
  Writes the site to docs-site/`;

/**
 * Writes the site to docs-site/: the pages of docs/, the reference of what the package exports, one
 * search over both, and llms.txt. A symbol without a description, or a link to nothing, is an
 * error.
 */
await runAsMain(import.meta.url, usage, async () => {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const app = await Application.bootstrap({
    entryPoints: Object.values(exports).flatMap((entry) => sourceOf(entry) ?? []),
    tsconfig: join(root, 'lib/tsconfig.lib.json'),
    out,
    readme: join(root, 'README.md'),
    projectDocuments: pages().map((page) => join(root, page)),
    searchInDocuments: true,
    name: 'nestjs-atomic-redis',
    githubPages: false,
    disableGit: true,
    sourceLinkTemplate: '{path}#L{line}',
    excludePrivate: true,
    excludeProtected: true,
    excludeInternal: true,
    excludeExternals: true,
    treatWarningsAsErrors: true,
    treatValidationWarningsAsErrors: true,
    validation: {
      notExported: true,
      invalidLink: true,
      invalidPath: true,
      rewrittenLink: true,
      notDocumented: true,
    },
    // A property without a comment is explained by its name and type.
    requiredToBeDocumented: [
      'Enum',
      'Variable',
      'Function',
      'Class',
      'Interface',
      'Method',
      'Accessor',
      'TypeAlias',
    ],
    // Made by Nest's ConfigurableModuleBuilder. The class tells of them.
    intentionallyNotDocumented: [
      ...['index.AtomicRedisModule.forRoot', 'index.AtomicRedisModule.forRootAsync'],
      'index.CheckedMethodDecorator.__type.Method',
    ],
    // Helper types that no application writes.
    intentionallyNotExported: [
      ...['ConsumerDecorator', 'CounterValueDecorator', 'HasAll', 'NoKey', 'ReturnedUnder'],
      ...['ArgumentsOf', 'NamedValues', 'Part'],
      ...['None', 'Problem', 'PushTarget', 'Returned'],
      ...['QueueingCommander', 'ReadName', 'WithBuffer', 'WriteName'],
    ],
  });
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => withoutConstructors(project));
  const project = await app.convert();
  if (!project) throw new ScriptError('The sources do not compile');
  app.validate(project);
  await app.generateOutputs(project);
  // The index for language models links to the pages as they are written.
  cpSync(join(root, 'docs'), out, { recursive: true });
  writeFileSync(join(out, 'llms.txt'), llmsIndex());
  writeFileSync(join(out, 'llms-full.txt'), ['README.md', ...pages()].map(textOf).join('\n\n'));
  const { warningCount, errorCount } = app.logger;
  if (warningCount + errorCount > 0)
    throw new ScriptError(`The site has ${errorCount} errors and ${warningCount} warnings`);
});

function textOf(page) {
  return readFileSync(join(root, page), 'utf8');
}

/** Every page but the index, which the site's own navigation stands in for. */
function pages() {
  return ['docs', 'docs/recipes', 'docs/decisions'].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.md') && name !== 'README.md')
      .toSorted()
      .map((name) => `${folder}/${name}`),
  );
}

/** The index of docs/README.md in the form of https://llmstxt.org. */
function llmsIndex() {
  const { name, description } = JSON.parse(textOf('package.json'));
  const [, ...sections] = textOf('docs/README.md').split(/^(?=## )/m);
  const entries = sections.join('').replaceAll(/^(- \[[^\]]+\]\([^)]+\)) (?=\S)/gm, '$1: ');
  return `# ${name}\n\n> ${description}\n\n${entries}`;
}

/** The source of an entry of the exports map; none for one that is no code. */
function sourceOf(entry) {
  const built = typeof entry === 'string' ? entry : entry.default;
  return built.endsWith('.js') ? join(root, built.replace('./dist/', '').replace(/\.js$/, '.ts')) : undefined;
}

/**
 * Services are injected, and what they return is made by them: only errors are constructed by who
 * uses them.
 */
function withoutConstructors(project) {
  for (const constructor of project.getReflectionsByKind(ReflectionKind.Constructor)) {
    if (!constructor.parent.name.endsWith('Error')) project.removeReflection(constructor);
  }
}
