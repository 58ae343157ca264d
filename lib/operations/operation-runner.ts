import { Inject, Injectable } from '@nestjs/common';
import { OPERATIONS, OPTIONS } from '../atomic-redis.constants.js';
import { CrossSlotError, NotReplicatedError } from '../atomic-redis.errors.js';
import { enforcementOf, PERMIT_COLOCATION, type Enforcement } from '../leases/permit.js';
import { Observer } from '../observability/observer.js';
import { Deadline } from '../runtime/deadline.js';
import { copyDurability, type DurabilityOptions } from '../connection/durability.js';
import { randomId } from '../runtime/random-id.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { assertOutsideTransaction, isInTransaction, Propagation } from '../runtime/transaction-scope.js';
import { KEEP_MARKER, type ScriptArgument } from '../scripting/script.js';
import { ScriptRunner } from '../scripting/script-runner.js';
import { WorkInFlight } from '../runtime/work-in-flight.js';
import { enforcedScript } from './enforced-script.js';
import type { Operation } from './operation.js';
import type { EnforceableOptions, ResolvedDefaults } from './operation.options.js';

/** The options that the runner reads. */
interface RunOptions extends EnforceableOptions {
  /** Used in place of `timeoutMs` by a part of a call that has a deadline of its own. */
  readonly deadline?: Deadline;
}

/** Records whether an observed call changed anything. */
interface Effect {
  changed: boolean;
}

/**
 * Takes operations through their stages: the whole way of a scripted call, from its arguments to
 * its result.
 */
@Injectable()
export class OperationRunner {
  /** The defaults of each type's service. */
  private readonly defaultsOf: Readonly<Record<string, ResolvedDefaults>>;
  /** The defaults of a part: its call has decided by itself. */
  private readonly ofParts: ResolvedDefaults;

  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    private readonly observer: Observer,
    @Inject(OPTIONS)
    { timeoutMs, services = {} }: { readonly timeoutMs: number; readonly services?: object },
    @Inject(OPERATIONS) operations: readonly Operation[],
  ) {
    this.ofParts = { timeoutMs, deduplicate: true, durability: undefined };
    const ofServices = services as Readonly<Record<string, ResolvedDefaults>>;
    this.defaultsOf = Object.fromEntries(
      operations.map(({ type }) => [type, ofServices[type.split('.', 1)[0]!] ?? this.ofParts]),
    );
    connection.preload([...new Set(operations.map(({ script }) => script))]);
  }

  /**
   * Runs an operation as one call of a service, and reports its end by one event.
   *
   * `Wanted` is the caller's narrower type of the result, where the options decide it.
   *
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws IllegalTransactionStateError inside an open transaction, unless the operation is a
   * query
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was done
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not done by
   * then, it never will be
   * @throws NotReplicatedError when it was done, and `durability` was not reached in time
   * @throws LeaseLostError when the `permit` was lost; nothing was done
   * @throws RedisReplyError when Redis refused it
   */
  run<Given, Options extends RunOptions, Call, Reply, Result, Wanted extends Result = Result>(
    operation: Operation<string, Given, Options, Call, Reply, Result>,
    given: Given,
    options: Options,
  ): Promise<Wanted> {
    // 1. Observe. Around everything: a call whose arguments are refused has its event too.
    const defaults = this.defaultsOf[operation.type];
    if (!this.observer.isWatching) return this.part(operation, given, options, defaults);
    const effect: Effect = { changed: true };
    const report = { name: operation.eventName(given), changed: () => effect.changed };
    const work = () =>
      this.part<Given, Options, Call, Reply, Result, Wanted>(operation, given, options, defaults, effect);
    return this.observer.operation(operation.type as never, work, report);
  }

  /**
   * Runs an operation as a part of a call that is observed as a whole.
   * @param defaults of the service, for a part that has the options of the call
   * @throws as {@link run} does
   */
  async part<Given, Options extends RunOptions, Call, Reply, Result, Wanted extends Result = Result>(
    operation: Operation<string, Given, Options, Call, Reply, Result>,
    given: Given,
    options: Options,
    defaults: ResolvedDefaults = this.ofParts,
    effect?: Effect,
  ): Promise<Wanted> {
    // 2. In flight: shutdown waits for it.
    this.inFlight.enter();
    try {
      // 3. Check and copy the arguments: later changes by the caller make no difference.
      const call = operation.check(given, options);
      const known = operation.known(call);
      if (known !== undefined) {
        if (effect) effect.changed = false;
        return known as Wanted;
      }
      // 4. Refuse inside a transaction, whose attempts would repeat it. A step without a marker is
      // a part of a call that was checked before.
      if (operation.hasMarker && options.propagation !== Propagation.Outside && isInTransaction())
        assertOutsideTransaction(operation.does(call), options.propagation);
      const deadline = options.deadline ?? Deadline.in(options.timeoutMs ?? defaults.timeoutMs);
      // The defaults are those of calls that change something.
      const { deduplicate, durability: toReplicas } = operation.writes ? defaults : this.ofParts;
      const isResent = options.deduplicate ?? deduplicate;
      const durability = copyDurability(options.durability ?? toReplicas);
      const permit = options.permit && enforcementOf(options.permit, this.connection);
      // Once, except for an operation that answers in parts.
      for (;;) {
        let reply: Reply;
        let unreplicated: NotReplicatedError | undefined;
        try {
          reply = await this.send(operation, call, deadline, isResent, durability, permit);
        } catch (error) {
          if (!(error instanceof NotReplicatedError)) throw error;
          unreplicated = error;
          reply = error.result as Reply;
        }
        if (operation.isPartial(reply)) continue;
        // 9. Decode. Throws the error that a refusal stands for.
        const result = operation.decode(reply, call);
        // 10. Outcome. Replicas matter if something was changed, or if they were asked to have what
        // was read.
        if (!effect && !unreplicated) return result as Wanted;
        const changed = operation.changed(reply, call);
        if (effect) effect.changed = changed;
        if (unreplicated && (changed || !operation.writes)) throw unreplicated.withResult(result);
        return result as Wanted;
      }
    } finally {
      this.inFlight.leave();
    }
  }

  private send<Call, Reply>(
    operation: Operation<string, never, never, Call, Reply>,
    call: Call,
    deadline: Deadline,
    deduplicate: boolean,
    durability: DurabilityOptions | undefined,
    permit: Enforcement | undefined,
  ): Promise<Reply> {
    const { script, hasMarker, marksCopiesOnly } = operation;
    const { keys, args, callersKeys } = operation.encode(call, this.connection.keys) as {
      keys: Record<string, string | readonly string[]>;
      args: Record<string, ScriptArgument | readonly ScriptArgument[]>;
      callersKeys?: readonly string[];
    };
    // On a Cluster, marker and permit must be in the slot of these.
    const colocated = this.connection.isCluster ? (callersKeys ?? Object.values(keys).flat()) : [];
    if (permit) this.assertColocated(permit, colocated);
    // 5. Deduplicate: give the call a marker of its own, in the slot of its keys.
    if (hasMarker) {
      keys['marker'] = this.markerFor(colocated, script.name);
      args[KEEP_MARKER] = deduplicate && !marksCopiesOnly ? '1' : '';
    }
    const how = { resend: deduplicate, durability };
    // 6. Enforce the permit: the script does nothing unless it is held.
    if (permit) {
      const all = { permit: permit.key, ...keys };
      const given = { permitToken: permit.token, ...args };
      return this.scripts.run(enforcedScript(script), all, given, deadline, how) as Promise<Reply>;
    }
    // 7. and 8. Batch, send and replicate. Calls of one script and one turn share an EVALSHA, and
    // each is sent until it is answered.
    return this.scripts.run(script, keys as never, args as never, deadline, how);
  }

  /** @throws CrossSlotError on a Cluster when the permit does not share the slot of the keys */
  private assertColocated({ key }: Enforcement, callersKeys: readonly string[]): void {
    const { keys, isCluster } = this.connection;
    if (!isCluster) return;
    const all = [...callersKeys, key];
    const slots = all.map((one) => keys.slotOf(one));
    if (slots.some((slot) => slot !== slots[0])) throw new CrossSlotError(all, slots, PERMIT_COLOCATION);
  }

  /**
   * @throws CrossSlotError when the keys do not share a slot; the error does not name the marker
   */
  private markerFor(callersKeys: readonly string[], name: string): string {
    const id = randomId('base64url');
    const { keys, isCluster } = this.connection;
    if (!isCluster) return keys.global('operation', id);
    const slot = callersKeys.length > 0 ? keys.commonSlotOf(callersKeys) : keys.slotOf(name);
    return keys.pinned('operation', slot, id);
  }
}
