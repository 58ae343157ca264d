import { createHash } from 'node:crypto';
import { ConfigurationError, InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { copyBytes } from './copies.js';
import { blocksProblem } from './lua-blocks.js';

/** An argument of a script: text, bytes, or an integer, which is sent in decimal. @inline */
export type ScriptArgument = string | Buffer | number | bigint;

/** One value for each name; a last name with `...` in front takes a list. */
export type NamedValues<Names extends readonly string[], Value> = {
  readonly [
    Name in Names[number] as Name extends `...${infer Rest}` ? Rest : Name
  ]: Name extends `...${string}` ? readonly Value[] : Value;
};

/**
 * The argument that the runner fills in: Redis's time, in milliseconds, past which the script must
 * do nothing.
 */
export const NOT_AFTER = 'notAfterMs';

/**
 * The argument that says by '1' that the script keeps its answer in its marker, by '' that it does
 * not. A call that may have arrived before is sent again with '1'.
 */
export const KEEP_MARKER = 'keepMarker';

/**
 * The reply, alone or as the first element, of a script that arrived after its `notAfterMs` and did
 * nothing.
 */
export const TOO_LATE = 'TOO_LATE';

export type ArgumentsOf<Names extends readonly string[]> = Omit<
  NamedValues<Names, ScriptArgument>,
  typeof NOT_AFTER
>;

/** A Lua script with the types of its keys, arguments and reply. Made by {@link defineScript}. */
export interface Script<
  Keys extends readonly string[] = readonly string[],
  Args extends readonly string[] = readonly string[],
  Reply = unknown,
> {
  /** The name in error messages and events: `counters.apply`. */
  readonly name: string;
  /**
   * Names of KEYS[1], KEYS[2], …; a last name with `...` in front takes the rest. Lists every key
   * that the script touches.
   */
  readonly keys: Keys;
  /**
   * Names of ARGV[1], ARGV[2], …; likewise. `notAfterMs` is filled in by the library from the
   * call's deadline.
   */
  readonly args: Args;
  /**
   * Lua in front of the call's that runs once for all calls that share an EVALSHA: functions, and
   * what is read for all at once. It changes nothing, and its `KEYS` and `ARGV` are those of all
   * calls.
   * @default ''
   */
  readonly opening: string;
  /** The whole text: the opening, and the Lua that makes the call. */
  readonly lua: string;
  /** Converts the reply of Redis to the script's own result. */
  readonly reply: (raw: unknown) => Reply;
  /** Receives bulk strings as Buffers, for results that hold bytes. @default false */
  readonly binary: boolean;
  /**
   * Set for a script that writes nothing. Redis refuses its writes, and its outcome is never
   * unknown. @default false
   */
  readonly readOnly: boolean;
  /** The text behind the opening. */
  readonly body: string;
  /** SHA-1 of the whole text, by which EVALSHA calls it. */
  readonly sha: string;
}

/**
 * Defines a Lua script: its text, and the names and types of its keys, arguments and reply. `lua`
 * makes the call; `opening`, `binary` and `readOnly` may be left out.
 *
 * @throws ConfigurationError when a name is repeated, a list is not last, the text begins with `#!`
 * or ends a block that it did not begin, or a part is missing
 */
export function defineScript<
  const Keys extends readonly string[],
  const Args extends readonly string[],
  Reply,
>(
  specification: Pick<Script<Keys, Args, Reply>, 'name' | 'keys' | 'args' | 'lua' | 'reply'> &
    Partial<Pick<Script, 'opening' | 'binary' | 'readOnly'>>,
): Script<Keys, Args, Reply> {
  const { name, lua, opening = '', keys, args, reply } = specification;
  if (typeof name !== 'string' || name === '' || typeof lua !== 'string' || lua.trim() === '') {
    throw new ConfigurationError(
      'defineScript needs a name and the Lua text: defineScript({ name, lua, … })',
    );
  }
  // A line of its own: the opening may end in a comment.
  const whole = opening === '' ? lua : `${opening}\n${lua}`;
  if (whole.trimStart().startsWith('#!')) {
    throw new ConfigurationError(
      `Script ${name} begins with a #! line, which not every server knows; leave it out`,
    );
  }
  const problem = blocksProblem(lua) ?? blocksProblem(opening);
  if (problem) throw new ConfigurationError(`Script ${name} is not valid Lua: ${problem}`);
  if (typeof reply !== 'function')
    throw new ConfigurationError(`Script ${name} needs reply, a function that reads what Redis answers`);
  for (const [what, part, names] of [
    ['key', 'keys', keys],
    ['argument', 'args', args],
  ] as const) {
    if (!Array.isArray(names) || !names.every(check.isText))
      throw new ConfigurationError(`Script ${name} needs ${part}, a list of names: [] if it has none`);
    const bare = names.map((one) => one.replace(/^\.\.\./, ''));
    if (new Set(bare).size !== bare.length)
      throw new ConfigurationError(`Script ${name} names a ${what} twice: ${names.join(', ')}`);
    if (names.slice(0, -1).some((one) => one.startsWith('...'))) {
      throw new ConfigurationError(
        `Script ${name}: only the last ${what} may be a list: ${names.join(', ')}`,
      );
    }
  }
  return Object.freeze({
    binary: false,
    readOnly: false,
    ...specification,
    opening,
    body: lua,
    lua: whole,
    sha: createHash('sha1').update(whole).digest('hex'),
  });
}

/**
 * Returns KEYS in their order.
 * @throws InvalidArgumentError for a key that is not a well-formed string, or empty
 */
export function orderedKeys(script: Script, keys: Readonly<Record<string, unknown>>): string[] {
  const ordered = inOrder(script, script.keys, keys);
  for (let i = 0; i < ordered.length; i++)
    if (!check.isText(ordered[i])) check.key(pathOf(script, script.keys, i), ordered[i]);
  return ordered as string[];
}

/**
 * Returns ARGV in their order, with a placeholder for the time limit, which is known when they are
 * sent. Bytes are copied.
 *
 * @throws InvalidArgumentError for a value that would be sent as "" or "[object Object]"
 */
export function orderedArguments(
  script: Script,
  args: Readonly<Record<string, unknown>>,
): (string | Buffer)[] {
  const ordered = inOrder(script, script.args, args);
  for (let i = 0; i < ordered.length; i++) {
    const value = ordered[i];
    if (check.isBytes(value)) {
      if (typeof value !== 'string') ordered[i] = copyBytes(value);
      continue;
    }
    if (typeof value !== 'bigint' && !Number.isSafeInteger(value))
      throw new InvalidArgumentError(
        pathOf(script, script.args, i),
        'a well-formed string, a Buffer, a bigint or a safe integer',
        value,
      );
    ordered[i] = String(value);
  }
  return ordered as (string | Buffer)[];
}

function inOrder(
  script: Script,
  names: readonly string[],
  given: Readonly<Record<string, unknown>>,
): unknown[] {
  const ordered: unknown[] = [];
  const lastName = names.at(-1);
  const listName = lastName?.startsWith('...') ? lastName.slice(3) : undefined;
  const single = listName === undefined ? names.length : names.length - 1;
  for (let i = 0; i < single; i++) {
    const name = names[i]!;
    ordered.push(name === NOT_AFTER ? '' : given[name]);
  }
  if (listName === undefined) return ordered;
  const values = given[listName];
  if (!Array.isArray(values))
    throw new InvalidArgumentError(`${script.name}.${listName}`, 'an array', values);
  // Holes of a sparse array are values too, and refused.
  for (let i = 0; i < values.length; i++) ordered.push(values[i]);
  return ordered;
}

/** Names the value at `index` of the result of {@link inOrder}. Only the last name is a list. */
function pathOf(script: Script, names: readonly string[], index: number): string {
  const name = names[Math.min(index, names.length - 1)]!;
  if (!name.startsWith('...')) return `${script.name}.${name}`;
  return `${script.name}.${name.slice(3)}[${index - (names.length - 1)}]`;
}
