import type { KeySpace } from '../scripting/key-space.js';
import { defineScript, type NamedValues, type Script, type ScriptArgument } from '../scripting/script.js';
import {
  keptText,
  operationText,
  plainText,
  type AnswerKeeping,
  type Described,
  type ScriptText,
  type TextParts,
} from './operation-text.js';

type NamesOf<Names extends Described> = readonly (keyof Names & string)[];

/**
 * KEYS and ARGV of one call by their names. The runner adds the marker, its switch and the time
 * limit.
 */
export interface Encoded<Keys extends Described = Described, Args extends Described = Described> {
  readonly keys: NamedValues<NamesOf<Keys>, string>;
  readonly args: Omit<NamedValues<NamesOf<Args>, ScriptArgument>, 'notAfterMs'>;
  /** The keys that a `CrossSlotError` names. Default: all. */
  readonly callersKeys?: readonly string[];
}

/** The script of an operation. */
interface ScriptStatement<Keys extends Described, Args extends Described, Reply> extends Omit<
  TextParts,
  'name'
> {
  /** The name in errors and logs, if operations share the script. Default: the type. */
  readonly name?: string;
  readonly keys: Keys;
  readonly args: Args;
  /** Receive bulk strings as Buffers. @default false */
  readonly binary?: boolean;
  /** Converts the reply of Redis. */
  readonly reply: (raw: unknown) => Reply;
}

/** The parts of a call around its script. */
interface CallStatement<Type, Given, Options, Call, Encoding, Reply, Result> {
  /** `<field of the façade>.<method>`, the type of its event. */
  readonly type: Type;
  /** Names the queue or the script in the event. Default: the event has no name. */
  readonly eventName?: (given: Given) => string | undefined;
  /**
   * Checks the arguments, and copies those that are read after this turn.
   * @throws InvalidArgumentError
   */
  readonly check: (given: Given, options: Options) => Call;
  /** Returns a result that is known without Redis. */
  readonly known?: (call: Call) => Result | undefined;
  readonly encode: (call: Call, keys: KeySpace) => Encoding;
  /** Converts the reply to the caller's result. @throws the error that a refusal stands for */
  readonly decode: (reply: Reply, call: Call) => Result;
}

/** The parts of an operation that changes something. */
interface ChangeStatement<Call, Reply> {
  /** The beginning of the error inside a transaction: `Changing "key"`. */
  readonly does: (call: Call) => string;
  /** Returns true if the call changed anything. Default: it did. */
  readonly changed?: (reply: Reply, call: Call) => boolean;
  /**
   * Returns true if the script did a part of its work, so that it must be called again. Default:
   * never.
   */
  readonly isPartial?: (reply: Reply) => boolean;
}

/** The way in which the answer is kept for copies. */
interface KeepingStatement {
  /** @default keptText */
  readonly keeping?: AnswerKeeping;
  /** Lua that answers a copy from `stored`. @default 'return stored' */
  readonly onCopy?: string;
  /**
   * True if a call keeps its answer only once it is sent again: its effect reveals a copy until its
   * caller makes another call, and after that only a copy could arrive.
   * @default false
   */
  readonly marksCopiesOnly?: boolean;
}

/**
 * One kind of scripted call. The runner takes each call through its stages. Made by
 * `defineOperation`, `defineQuery` or `defineStep`.
 */
export interface Operation<
  Type extends string = string,
  Given = unknown,
  Options = unknown,
  Call = unknown,
  Reply = unknown,
  Result = unknown,
> {
  readonly type: Type;
  readonly script: Script<readonly string[], readonly string[], Reply>;
  /** False for a query, whose outcome is never unknown. */
  readonly writes: boolean;
  /** True if a marker identifies copies of a call. */
  readonly hasMarker: boolean;
  /** True if the marker is kept only by a call that is sent again. */
  readonly marksCopiesOnly: boolean;
  eventName(given: Given): string | undefined;
  does(call: Call): string;
  check(given: Given, options: Options): Call;
  known(call: Call): Result | undefined;
  encode(call: Call, keys: KeySpace): Encoded;
  isPartial(reply: Reply): boolean;
  decode(reply: Reply, call: Call): Result;
  changed(reply: Reply, call: Call): boolean;
}

const nothing = (): undefined => undefined;
const always = (): boolean => true;
const never = (): boolean => false;

/** Defines an operation that changes something. `Own` is what the kind of operation adds. */
type DefineChange<Own> = <
  const Type extends string,
  const Keys extends Described,
  const Args extends Described,
  Reply,
  Given,
  Options,
  Call,
  Result,
>(
  statement: ScriptStatement<Keys, Args, Reply> &
    CallStatement<Type, Given, Options, Call, Encoded<Keys, Args>, Reply, Result> &
    ChangeStatement<Call, Reply> &
    Own,
) => Operation<Type, Given, Options, Call, Reply, Result>;

/**
 * Defines an operation that changes something, and takes effect once. The answer is kept in a
 * marker for copies of the call, and a late copy does nothing.
 *
 * Its Lua judges first and writes last. It calls `remember(answer)` ahead of its first write. That
 * needs memory, so a full Redis refuses the script before it has done anything. A refusal is
 * remembered too: otherwise a late copy could apply a call that was reported as refused.
 */
export const defineOperation: DefineChange<KeepingStatement> = (statement) => {
  const { type, name = type, keeping = keptText, onCopy = 'return stored' } = statement;
  const { marksCopiesOnly = false } = statement;
  const text = operationText({ ...statement, name }, keeping, onCopy);
  return operationOf(statement, text, { writes: true, hasMarker: true, marksCopiesOnly });
};

/**
 * Defines an operation with the script of `base`. It differs from `base` in the given parts only.
 */
export function defineVariant<
  const Type extends string,
  Reply,
  Given,
  Options,
  BaseCall,
  Call extends BaseCall,
  BaseResult,
  Result = BaseResult,
>(
  base: Operation<string, never, never, BaseCall, Reply, BaseResult>,
  statement: Pick<CallStatement<Type, Given, Options, Call, never, Reply, Result>, 'type' | 'check'> &
    Partial<Pick<CallStatement<Type, Given, Options, Call, never, Reply, Result>, 'decode'>>,
): Operation<Type, Given, Options, Call, Reply, Result> {
  return Object.freeze({ ...base, ...statement }) as Operation<Type, Given, Options, Call, Reply, Result>;
}

/** Defines an operation whose script needs no marker, since a copy does no harm at any time. */
export const defineStep: DefineChange<{
  /** The reason why a copy does no harm, for the header. */
  readonly copies: string;
}> = (statement) => {
  const { type, name = type, copies } = statement;
  const text = plainText({ ...statement, name }, [`-- Copies: ${copies}`]);
  return operationOf(statement, text, { writes: true, hasMarker: false, marksCopiesOnly: false });
};

/** Defines an operation that only reads. It is sent by EVALSHA_RO, and needs no right to write. */
export function defineQuery<
  const Type extends string,
  const Keys extends Described,
  const Args extends Described,
  Reply,
  Given,
  Options,
  Call,
  Result,
>(
  statement: ScriptStatement<Keys, Args, Reply> &
    CallStatement<Type, Given, Options, Call, Encoded<Keys, Args>, Reply, Result>,
): Operation<Type, Given, Options, Call, Reply, Result> {
  const { type, name = type } = statement;
  const text = plainText({ ...statement, name });
  return operationOf({ ...statement, does: () => type, changed: never }, text, {
    writes: false,
    hasMarker: false,
    marksCopiesOnly: false,
  });
}

function operationOf<Type extends string, Given, Options, Call, Reply, Result>(
  statement: Pick<ScriptStatement<Described, Described, Reply>, 'name' | 'binary' | 'reply'> &
    CallStatement<Type, Given, Options, Call, Encoded, Reply, Result> &
    ChangeStatement<Call, Reply>,
  text: ScriptText,
  marking: Pick<Operation, 'writes' | 'hasMarker' | 'marksCopiesOnly'>,
): Operation<Type, Given, Options, Call, Reply, Result> {
  const { type, name = type, binary = false, reply, check, encode, decode, does } = statement;
  const { eventName = nothing, known = nothing, isPartial = never, changed = always } = statement;
  const script = defineScript({ name, ...text, binary, readOnly: !marking.writes, reply });
  return Object.freeze({
    type,
    script,
    ...marking,
    eventName,
    does,
    check,
    known,
    encode,
    isPartial,
    decode,
    changed,
  });
}
