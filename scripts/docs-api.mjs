import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Application, Converter, ReflectionKind } from 'typedoc';
import { root, runAsMain, ScriptError } from './setup/process.mjs';

/** Writes the reference of what the package exports to docs-api/. A symbol without a description, or a link to nothing, is an error. */
await runAsMain(import.meta.url, async () => {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const app = await Application.bootstrap({
    entryPoints: Object.values(exports).flatMap((entry) => sourceOf(entry) ?? []),
    tsconfig: join(root, 'lib/tsconfig.lib.json'),
    out: join(root, 'docs-api'),
    readme: join(root, 'README.md'),
    projectDocuments: [],
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
    // Of a property, its name and type say enough where nothing is added.
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
    intentionallyNotDocumented: ['index.AtomicRedisModule.forRoot', 'index.AtomicRedisModule.forRootAsync'],
    // What types are computed from, which nobody writes down.
    intentionallyNotExported: [
      ...['CheckedMethodDecorator', 'ConsumerDecorator', 'CounterValueDecorator', 'NoKey', 'ReturnedUnder'],
      ...['ArgumentsOf', 'NamedValues', 'Part'],
      ...['EXAMPLES', 'Problem'],
      ...['QueueingCommander', 'ReadName', 'WithBuffer', 'WriteName'],
    ],
  });
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => withoutConstructors(project));
  const project = await app.convert();
  if (!project) throw new ScriptError('The sources do not compile');
  app.validate(project);
  await app.generateOutputs(project);
  const { warningCount, errorCount } = app.logger;
  if (warningCount + errorCount > 0)
    throw new ScriptError(`The API reference has ${errorCount} errors and ${warningCount} warnings`);
});

/** The source of an entry of the exports map; none for one that is no code. */
function sourceOf(entry) {
  const built = typeof entry === 'string' ? entry : entry.default;
  return built.endsWith('.js') ? join(root, built.replace('./dist/', '').replace(/\.js$/, '.ts')) : undefined;
}

/** Services are injected, and what they return is made by them: only errors are constructed by who uses them. */
function withoutConstructors(project) {
  for (const constructor of project.getReflectionsByKind(ReflectionKind.Constructor)) {
    if (!constructor.parent.name.endsWith('Error')) project.removeReflection(constructor);
  }
}
