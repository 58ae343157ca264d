import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import ts from 'typescript';

/** The entry points of the package. */
const ENTRY_POINTS = [
  'lib/index.ts',
  'lib/openapi/index.ts',
  'lib/health/index.ts',
  'lib/opentelemetry/index.ts',
  'lib/throttler/index.ts',
  'lib/testing/index.ts',
];

/** The names of what came after the surface was cut: they count beside it. */
const CAPABILITIES = {
  'runs with steps and held keys': [
    ...[
      'AbandonedRun',
      'HeldKey',
      'HeldKeys',
      'InjectRun',
      'KeyReference',
      'ProbeFinding',
      'RunStep',
      'SettledResponse',
    ],
    ...['Settlement', 'StepOptions', 'StepProbe', 'StepSummary', 'getRunToken'],
    ...['IllegalRunStateError', 'ProbeFailedError', 'StepInterruptedError'],
  ],
  'defined queues and delays': [
    ...['InjectQueue', 'InvalidPayloadError', 'PushOptions', 'PushedJob', 'QueueDefinition', 'SchemaIssue'],
    ...['SchemaResult', 'StandardSchema', 'TestJob', 'defineQueue', 'getQueueToken', 'testJob'],
  ],
  limits: [
    ...['AtomicThrottlerStorage', 'Limit', 'LimitCostError', 'LimitExceededError', 'LimitReservation'],
    ...['LimitResult', 'LimitService', 'LimitsResult', 'RateLimit', 'RateLimitOptions'],
  ],
  permits: [
    ...['AcquireOptions', 'EnforceableOptions', 'Permit', 'PermitService', 'PermitUnavailableError'],
    ...['WithPermit', 'WithPermitOptions'],
  ],
};

/** Lowest first. A folder that is not listed is a feature. */
const LAYERS = [
  ['runtime'],
  ['connection'],
  ['scripting'],
  ['operations', 'leases', 'pipelines', 'method-wrapping'],
];
const FEATURES = LAYERS.length;

/** Folders that serve every layer, or stand beside them. */
const BESIDE = new Set([
  'observability',
  'http',
  'problem-details',
  'openapi',
  'opentelemetry',
  'health',
  'testing',
  'throttler',
  'nest-add',
]);

const alphabetically = (a, b) => (a < b ? -1 : 1);

/** Returns the TypeScript files of a folder, by paths that begin with the folder, in order. */
export function filesOf(root, folder) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .toSorted(alphabetically);
}

/** Returns a file as TypeScript reads it. Needs no other file. */
const parsed = (root, file) =>
  ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true);

/** Maps each file to the files of the tree that it imports, types included. */
export function importsOf(root, files) {
  return new Map(files.map((file) => [file, importedBy(root, file)]));
}

function importedBy(root, file) {
  const found = new Set();
  for (const statement of parsed(root, file).statements) {
    const { moduleSpecifier } = statement;
    if (!moduleSpecifier?.text.startsWith('.')) continue;
    found.add(join(dirname(file), moduleSpecifier.text).replace(/\.js$/, '.ts'));
  }
  return [...found];
}

/** Returns the groups of files that import each other in a circle. */
export function cyclesOf(imports) {
  const order = new Map();
  const low = new Map();
  const stack = [];
  const cycles = [];
  const visit = (file) => {
    order.set(file, order.size);
    low.set(file, order.get(file));
    stack.push(file);
    for (const next of imports.get(file) ?? []) {
      if (!order.has(next)) {
        visit(next);
        low.set(file, Math.min(low.get(file), low.get(next)));
      } else if (stack.includes(next)) low.set(file, Math.min(low.get(file), order.get(next)));
    }
    if (low.get(file) !== order.get(file)) return;
    const group = stack.splice(stack.indexOf(file));
    if (group.length > 1) cycles.push(group.toSorted(alphabetically));
  };
  for (const file of imports.keys()) if (!order.has(file)) visit(file);
  return cycles;
}

/**
 * Returns the imports that go from a layer to one above it, or from a feature to another, as
 * `importer → imported`.
 */
export function upwardImports(imports) {
  const found = [];
  for (const [file, imported] of imports) {
    const from = placeOf(file);
    for (const target of imported) {
      const to = placeOf(target);
      if (!from || !to || from.folder === to.folder) continue;
      if (to.layer > from.layer || (from.layer === FEATURES && to.layer === FEATURES))
        found.push(`${file} → ${target}`);
    }
  }
  return found;
}

/** Returns the layer of a file of lib/. Undefined for a file beside the layers. */
function placeOf(file) {
  const [, folder, rest] = file.split('/');
  // The module, the façade and what they share: errors, checks and constants serve every layer.
  if (rest === undefined)
    return /^atomic-redis(\.module)?\.ts$/.test(folder) ? { folder, layer: 9 } : undefined;
  if (BESIDE.has(folder)) return undefined;
  const layer = LAYERS.findIndex((folders) => folders.includes(folder));
  return { folder, layer: layer === -1 ? FEATURES : layer };
}

/**
 * Returns the lines that hold code, trimmed: no comment, no blank line. Lines inside a literal
 * count.
 */
export function codeLines(root, file) {
  const source = parsed(root, file);
  const lines = source.text.split('\n');
  const holdsCode = new Set();
  const visit = (node) => {
    if (node.kind >= ts.SyntaxKind.FirstJSDocNode && node.kind <= ts.SyntaxKind.LastJSDocNode) return;
    const children = node.getChildren(source);
    children.forEach(visit);
    if (children.length > 0 || node.kind === ts.SyntaxKind.EndOfFileToken) return;
    const first = source.getLineAndCharacterOfPosition(node.getStart(source)).line;
    const last = source.getLineAndCharacterOfPosition(node.getEnd()).line;
    for (let line = first; line <= last; line++) if (lines[line].trim() !== '') holdsCode.add(line);
  };
  visit(source);
  return [...holdsCode].toSorted((a, b) => a - b).map((line) => lines[line].trim());
}

/**
 * Counts blocks of six and more lines of code that stand in more than one place. Import statements
 * do not count.
 * @param code the lines of code of each file
 */
export function duplicatesOf(code, length = 6) {
  const places = new Map();
  const windows = [];
  for (const [file, lines] of code) {
    const own = lines.filter((line) => !/^(import|export) .* from |^\} from /.test(line));
    for (let at = 0; at + length <= own.length; at++) {
      const text = own.slice(at, at + length).join('\n');
      // Brackets alone say nothing.
      if (!/\w.*\n.*\w/.test(text)) continue;
      places.set(text, (places.get(text) ?? 0) + 1);
      windows.push({ file, at, text });
    }
  }
  let blocks = 0;
  let before;
  for (const window of windows) {
    if (places.get(window.text) === 1) continue;
    if (before?.file !== window.file || before.at + 1 !== window.at) blocks++;
    before = window;
  }
  return blocks;
}

/** Returns the names that each entry point exports, values and types. */
export function exportedNames(root) {
  const names = new Map();
  for (const entry of ENTRY_POINTS) {
    if (existsSync(join(root, entry))) names.set(entry, namesOf(root, entry));
  }
  return names;
}

/** Counts the exported names of each capability, and those of none. */
export function namesByCapability(names) {
  const all = [...names.values()].flat();
  const counts = new Map();
  for (const [capability, own] of Object.entries(CAPABILITIES))
    counts.set(capability, all.filter((name) => own.includes(name)).length);
  const rest = all.length - [...counts.values()].reduce((sum, count) => sum + count, 0);
  return { all: all.length, counts, rest };
}

function namesOf(root, file) {
  return parsed(root, file).statements.flatMap((statement) => {
    if (ts.isExportDeclaration(statement)) {
      const { exportClause, moduleSpecifier } = statement;
      if (!exportClause)
        return namesOf(root, join(dirname(file), moduleSpecifier.text).replace(/\.js$/, '.ts'));
      return exportClause.elements.map(({ name }) => name.text);
    }
    const isExported = ts.canHaveModifiers(statement)
      ? ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
      : false;
    if (!isExported) return [];
    if (ts.isVariableStatement(statement))
      return statement.declarationList.declarations.map(({ name }) => name.getText());
    return [statement.name.text];
  });
}
