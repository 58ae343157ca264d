import { ConfigurationError } from '../atomic-redis.errors.js';
import { luaOperation } from './lua-operation.js';

/**
 * Keys or arguments in their order: the name of each, and its meaning for the script's header. A
 * last name with `...` in front stands for a list.
 */
export type Described = Readonly<Record<string, string>>;

/** Lua that keeps the answer of an operation for its copies. */
export interface AnswerKeeping {
  /** Functions that the operation's own Lua calls. */
  readonly lua: string;
  /** An expression for the kept answer, or nothing if there is none. */
  readonly recall: string;
}

/**
 * Keeps an answer that is a string. The operation calls `remember(answer)` once, ahead of its other
 * writes.
 */
export const keptText: AnswerKeeping = {
  lua: luaOperation,
  recall: "ARGV[2] ~= '' and redis.call('GET', KEYS[1])",
};

/**
 * The parts of a script's text. In each, `KEYS.name` and `ARGV.name` stand for the key or argument;
 * for a list, they stand for the place of its first element.
 */
export interface TextParts {
  readonly name: string;
  readonly keys: Described;
  readonly args: Described;
  /** Describes what the script returns. */
  readonly returns: string;
  /**
   * A user's Lua. It is left as it is and stands first, so that line numbers in Lua's errors are
   * the user's.
   */
  readonly verbatim?: string;
  /** Lua of other files, with functions that this one calls. */
  readonly uses?: readonly string[];
  /** Lua that runs ahead of everything else, for a copy as for the first call. It only reads. */
  readonly prepare?: string;
  /** Lua that does the work and returns its answer. */
  readonly lua: string;
}

const MARKER: Described = { marker: 'of this operation, by which a copy is recognised' };
const LIMITS: Described = {
  notAfterMs: 'time limit, milliseconds of Redis’s clock',
  keepMarker: "'1', or '' for no marker",
};

export interface ScriptText {
  readonly keys: readonly string[];
  readonly args: readonly string[];
  readonly lua: string;
}

/** Makes the text of a script without a marker: a query, or a script whose copies do no harm. */
export function plainText(parts: TextParts, notes: readonly string[] = []): ScriptText {
  const { keys, args, uses = [], prepare = '', lua } = parts;
  return textOf(parts, keys, args, [...notes, ...uses, prepare, lua]);
}

/**
 * Makes the text of an operation. A copy is answered from the marker, and a late one does nothing.
 *
 * @param onCopy Lua that returns the answer to a copy, from `stored`
 */
export function operationText(parts: TextParts, keeping: AnswerKeeping, onCopy: string): ScriptText {
  const { keys, args, uses = [], prepare = '', lua } = parts;
  const guard = `local stored = ${keeping.recall}
if stored then ${onCopy} end
if time_ms > tonumber(ARGV[1]) then return 'TOO_LATE' end
`;
  const returns = `TOO_LATE | ${parts.returns}`;
  return textOf({ ...parts, returns }, { ...MARKER, ...keys }, { ...LIMITS, ...args }, [
    keeping.lua,
    ...uses,
    prepare,
    guard,
    lua,
  ]);
}

function textOf(
  { name, returns, verbatim = '' }: TextParts,
  keys: Described,
  args: Described,
  blocks: readonly string[],
): ScriptText {
  const header = [...headerOf('KEYS', keys), ...headerOf('ARGV', args), ...lines('Returns ', returns)];
  const body = blocks
    .filter((block) => block !== '')
    .map((block) => named(name, block, { KEYS: keys, ARGV: args }));
  return {
    keys: Object.keys(keys),
    args: Object.keys(args),
    lua: `${verbatim}\n${[...header, ...body.map((block) => block.trim())].join('\n')}\n`,
  };
}

const isList = (name: string): boolean => name.startsWith('...');
const bareOf = (name: string): string => name.replace(/^\.\.\./, '');

function headerOf(table: string, names: Described): string[] {
  return Object.entries(names).flatMap(([name, meaning], i) =>
    lines(`${table}[${i + 1}${isList(name) ? '…' : ''}] ${bareOf(name)}: `, meaning),
  );
}

const lines = (title: string, meaning: string): string[] =>
  `${title}${meaning}`.split('\n').map((line, i) => (i === 0 ? `-- ${line}` : `--   ${line}`));

/** Replaces names by places. @throws ConfigurationError for a name that is not declared */
function named(script: string, block: string, tables: Readonly<Record<string, Described>>): string {
  return block.replaceAll(/\b(KEYS|ARGV)\.(\w+)/g, (_, table: string, name: string) => {
    const names = Object.keys(tables[table]!);
    const place = names.findIndex((one) => bareOf(one) === name) + 1;
    if (place === 0)
      throw new ConfigurationError(`Script ${script} uses ${table}.${name}, which it does not declare`);
    return isList(names[place - 1]!) ? String(place) : `${table}[${place}]`;
  });
}
