import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import { ConfigurationError, InvalidArgumentError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { Observer } from '../observability/observer.js';
import { OperationRunner } from '../operations/operation-runner.js';
import { checkEnforceableOptions, type EnforceableOptions } from '../operations/operation.options.js';
import type { Deadline } from '../runtime/deadline.js';
import { RedisConnection } from '../connection/redis-connection.js';
import {
  NOT_AFTER,
  orderedArguments,
  orderedKeys,
  type ArgumentsOf,
  type NamedValues,
  type Script,
} from '../scripting/script.js';
import { prepareOperation, prepareRead, type PreparedScript } from './prepared-script.js';

/** `Values` under the name `Name`. Optional if there are none. */
type Part<Name extends string, Values> = [keyof Values] extends [never]
  ? { readonly [N in Name]?: Values }
  : { readonly [N in Name]: Values };

/**
 * Keys and arguments of one run of a script, by their names. Leave out a part that the script does
 * not have.
 */
export type ScriptInput<Keys extends readonly string[], Args extends readonly string[]> = Part<
  'keys',
  NamedValues<Keys, string>
> &
  Part<'args', ArgumentsOf<Args>>;

/**
 * A function that runs one script. `@InjectScript` injects it. It rejects as `ScriptService.run`
 * does.
 */
export type ScriptFunction<S extends Script> =
  S extends Script<infer Keys, infer Args, infer Reply>
    ? (input: ScriptInput<Keys, Args>, options?: EnforceableOptions) => Promise<Reply>
    : never;

/** Runs your own Lua scripts, each call once. */
@Injectable()
export class ScriptService {
  private readonly prepared = new Map<Script, PreparedScript>();

  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
    private readonly observer: Observer,
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
  ) {}

  /**
   * Runs a script once, even if its reply is lost and the library sends it again. The reply is kept
   * in Redis for a minute beyond the time-out, in a key of some 150 bytes and the reply's own,
   * unless `deduplicate` is false. A read-only script keeps nothing; `deduplicate`, `propagation`
   * and `durability` make no difference to it.
   *
   * ```ts
   * const take = defineScript({ name: 'bucket.take', keys: ['bucket'], args: ['capacity'], lua: '…', reply: Number });
   * const left = await scripts.run(take, { keys: { bucket: 'bucket:{7}' }, args: { capacity: 10 } });
   * ```
   *
   * @returns the result of the script's `reply`
   * @throws InvalidArgumentError, and on a Cluster CrossSlotError, before any I/O
   * @throws RedisReplyError when the script failed, with an unknown outcome, since Lua takes
   * nothing back; or when Redis refused to run it
   * @throws UndeclaredKeyError when `checkKeys` is on and it was about to touch a key that it does
   * not declare
   * @throws IllegalTransactionStateError inside a transaction, unless `propagation` is `'outside'`
   * or the script is read-only
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was done
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not run by
   * then, it never will be
   * @throws NotReplicatedError when it ran, and `durability` was not reached in time; `result`
   * holds what it returned
   */
  async run<const Keys extends readonly string[], const Args extends readonly string[], Reply>(
    script: Script<Keys, Args, Reply>,
    input: ScriptInput<Keys, Args>,
    options: EnforceableOptions = {},
  ): Promise<Reply> {
    return await this.observer.operation('scripts.run', () => this.send(script, input, options), {
      name: scriptNameOf(script),
      changed: () => !script.readOnly,
    });
  }

  private async send<Keys extends readonly string[], Args extends readonly string[], Reply>(
    script: Script<Keys, Args, Reply>,
    input: ScriptInput<Keys, Args>,
    options: EnforceableOptions,
  ): Promise<Reply> {
    const prepared = this.preparedOf(script);
    checkEnforceableOptions('options', options);
    const { keys: givenKeys = {}, args: givenArgs = {} } = checkInput(input);
    const run = { keys: orderedKeys(script, givenKeys), args: orderedArguments(script, givenArgs) };
    const { timeoutMs } = options;
    // The other options make no difference to a read.
    return (await this.operations.part(
      prepared,
      run,
      script.readOnly ? { timeoutMs } : options,
      this.options.services.scripts,
    )) as Reply;
  }

  /**
   * Loads a script on every connect from now on, ahead of its first use, and returns a function
   * that runs it. `AtomicRedisModule.forFeature` does this for scripts that are injected.
   *
   * @throws ConfigurationError if it was not made by `defineScript`
   */
  prepare<S extends Script>(script: S): ScriptFunction<S> {
    this.preparedOf(script);
    const run = (input: ScriptInput<readonly string[], readonly string[]>, options?: EnforceableOptions) =>
      this.run(script, input, options);
    return run as ScriptFunction<S>;
  }

  /**
   * Loads the scripts that are prepared by now, so that one that is not valid Lua stops the
   * application while it starts.
   * @throws ConfigurationError for a script that does not compile
   * @internal
   */
  async verify(deadline: Deadline): Promise<void> {
    for (const [{ name }, prepared] of this.prepared) {
      const problem = await this.connection.load(prepared.script, deadline);
      if (problem && /compil/i.test(problem.message))
        throw new ConfigurationError(`Script ${name} is not valid Lua: ${problem.message}`);
    }
  }

  private preparedOf(script: Script): PreparedScript {
    let prepared = this.prepared.get(script);
    if (!prepared) {
      checkScript(script);
      const { checkKeys } = this.options.scripts;
      prepared = script.readOnly ? prepareRead(script, checkKeys) : prepareOperation(script, checkKeys);
      this.prepared.set(script, prepared);
      this.connection.preload([prepared.script]);
    }
    return prepared;
  }
}

/**
 * Returns the name for the event; undefined for a value that is not a script, which `checkScript`
 * rejects later.
 */
function scriptNameOf(script: unknown): string | undefined {
  const name: unknown = (script as Script | undefined)?.name;
  return typeof name === 'string' ? name : undefined;
}

function checkScript(script: Script): void {
  if (typeof script !== 'object' || script === null || typeof script.sha !== 'string')
    throw new InvalidArgumentError('script', 'a script made by defineScript', script);
  if (script.args.includes(NOT_AFTER))
    throw new ConfigurationError(
      `Script ${script.name} names an argument ${NOT_AFTER}: its time limit is added when it is run, and kept for it`,
    );
}

function checkInput(input: unknown): {
  keys?: Readonly<Record<string, unknown>>;
  args?: Readonly<Record<string, unknown>>;
} {
  const anObject: check.Check = (path, value) => {
    if (typeof value !== 'object' || value === null)
      throw new InvalidArgumentError(path, 'an object of names and values', value);
  };
  check.options({ keys: anObject, args: anObject })('input', input);
  return input as object;
}
