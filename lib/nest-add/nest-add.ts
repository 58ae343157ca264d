import { enableShutdownHooks, importModule, withVariable } from './source-edits.js';

/**
 * As much of a schematic's file tree as is used here. It is not imported: an application need not
 * have its package.
 */
interface Tree {
  read(path: string): Uint8Array | null;
  overwrite(path: string, content: string): void;
  create(path: string, content: string): void;
}

interface Context {
  readonly logger: { info(message: string): void; warn(message: string): void };
}

interface NestAddOptions {
  readonly sourceRoot?: string;
  readonly module?: string;
}

const REDIS_URL = 'redis://localhost:6379';

/** The schematic behind `nest add nestjs-atomic-redis`. A second run changes nothing. */
export function nestAdd({ sourceRoot = 'src', module = 'app.module.ts' }: NestAddOptions) {
  return (tree: Tree, { logger }: Context): Tree => {
    const call = [
      'AtomicRedisModule.forRoot({',
      `  connection: process.env.REDIS_URL ?? '${REDIS_URL}',`,
      `  // Names this application on its Redis. Keep it: records and queues are found by it.`,
      `  namespace: '${namespaceOf(textOf(tree, 'package.json'))}',`,
      '})',
    ].join('\n');
    edit(`${sourceRoot}/${module}`, `Add this to the imports of a module:\n${call}`, (source) =>
      source.includes('AtomicRedisModule') ? source : importModule(source, call),
    );
    edit(`${sourceRoot}/main.ts`, 'Call app.enableShutdownHooks() before app.listen().', (source) =>
      source.includes('enableShutdownHooks') ? source : enableShutdownHooks(source),
    );
    write('.env', withVariable(textOf(tree, '.env') ?? '', 'REDIS_URL', REDIS_URL));
    logger.info(
      'Node.js reads .env with --env-file=.env, or @nestjs/config does, imported before AtomicRedisModule.',
    );
    return tree;

    /**
     * Changes a file; where that cannot be done surely, says what to write by hand and changes
     * nothing.
     */
    function edit(path: string, byHand: string, change: (source: string) => string | undefined): void {
      const source = textOf(tree, path);
      const changed = source === undefined ? undefined : change(source);
      if (changed === undefined) logger.warn(`${path} was not changed. ${byHand}`);
      else write(path, changed);
    }

    function write(path: string, text: string): void {
      const before = textOf(tree, path);
      if (before === undefined) tree.create(path, text);
      else if (before !== text) tree.overwrite(path, text);
    }
  };
}

function textOf(tree: Tree, path: string): string | undefined {
  const content = tree.read(path);
  return content === null ? undefined : Buffer.from(content).toString('utf8');
}

/** From the package's name, without its scope. */
function namespaceOf(manifest: string | undefined): string {
  let name: unknown;
  try {
    name = (JSON.parse(manifest ?? '{}') as { name?: unknown }).name;
  } catch {
    // The application's package.json is its own affair.
  }
  const plain = typeof name === 'string' ? name.replace(/^@[^/]*\//, '').replaceAll(/[^\w.-]/g, '') : '';
  return `${plain || 'app'}:`;
}
