import { AsyncLocalStorage } from 'node:async_hooks';
import {
  AtomicRedisError,
  NotReplicatedError,
  OutcomeUnknownError,
  RedisUnavailableError,
} from '../atomic-redis.errors.js';
import type { RedisClient } from '../connection/client.js';
import { fullJitter, sleep, type Deadline } from '../runtime/deadline.js';
import type { DurabilityOptions } from '../connection/durability.js';
import type { Acknowledged } from '../connection/durable-channel.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import {
  isConnectionLoss,
  isTransientRefusal,
  isUnknownScript,
  toScriptError,
} from '../connection/reply-errors.js';
import {
  KEEP_MARKER,
  orderedArguments,
  orderedKeys,
  type ArgumentsOf,
  type NamedValues,
  type Script,
} from './script.js';
import {
  isTooLate,
  ScriptCall,
  type AttemptOutcome,
  type CallKeeper,
  type SendOptions,
} from './script-call.js';
import { NOT_SENT, ScriptSender } from './script-sender.js';

/**
 * With less than this many milliseconds left, a refused call is not sent again: without a reply in
 * time, its outcome would be unknown, while that of the refused attempt is known.
 */
export const MIN_REPLY_MS = 50;

/**
 * Sends scripts over the shared connection, by EVALSHA, until they are answered or their deadline
 * has passed.
 *
 * A script may therefore arrive twice or late. It must take effect once: by a token or a sequence
 * number in its arguments, and by doing nothing past its `notAfterMs`, which the runner derives
 * from the deadline.
 */
export class ScriptRunner implements CallKeeper {
  private readonly sender: ScriptSender;

  constructor(private readonly connection: RedisConnection) {
    this.sender = new ScriptSender(connection);
  }

  /**
   * Runs a script. Keys and arguments are copied before this returns.
   *
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws RedisUnavailableError when it was never sent, or arrived too late and did nothing
   * @throws OutcomeUnknownError when it was sent and no answer came by the deadline, or, without
   * `resend`, before its connection was lost
   * @throws NotReplicatedError when it was answered, and `durability` was not reached in time
   * @throws RedisReplyError when Redis refused it
   */
  run<Keys extends readonly string[], Args extends readonly string[], Reply>(
    script: Script<Keys, Args, Reply>,
    keys: NamedValues<Keys, string>,
    args: ArgumentsOf<Args>,
    deadline: Deadline,
    options: SendOptions = {},
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const { isCluster, keys: keySpace } = this.connection;
      const keyList = orderedKeys(script, keys);
      const slot = isCluster && keyList.length > 0 ? keySpace.commonSlotOf(keyList) : 0;
      const argList = orderedArguments(script, args);
      this.send(script, keyList, argList, slot, deadline, options, resolve as never, reject);
    });
  }

  /**
   * Runs a script with keys and arguments that are in order, and that nobody changes. Calls
   * `resolve` or `reject` once, later than it returns.
   *
   * @param slot of the keys, on a Cluster
   */
  send(
    script: Script,
    keys: readonly string[],
    args: (string | Buffer)[],
    slot: number,
    deadline: Deadline,
    options: SendOptions,
    resolve: (reply: unknown) => void,
    reject: (error: unknown) => void,
  ): void {
    const call = new ScriptCall(script, keys, args, slot, deadline, options, this, resolve, reject);
    // Calls that leave together are answered in the asynchronous context of the first. Events on
    // the way belong to the context of each.
    if (this.connection.observer.isWatching) call.inOwnContext = AsyncLocalStorage.snapshot();
    if (call.durability || !this.canSendNow(call)) return this.goOn(call);
    // The way of nearly all calls: sent at once and answered, without a further promise.
    if (call.progress) call.progress.mayBeDone = true;
    this.sender.send(call);
  }

  goOn(call: ScriptCall, first?: AttemptOutcome): void {
    const persist = (): Promise<unknown> => this.persist(call, first);
    const { inOwnContext } = call;
    void (inOwnContext ? inOwnContext(persist) : persist()).then(call.resolve, call.reject);
  }

  late(call: ScriptCall): void {
    call.reject(this.unknown(call));
  }

  /** Returns true if it can be written in this turn, and fills in its time limit. */
  private canSendNow({ args, notAfterAt, slot, deadline, notAfter }: ScriptCall): boolean {
    const now = performance.now();
    if (now >= deadline.at) return false;
    if (notAfterAt === -1) return this.connection.isReady;
    const notAfterMs = this.connection.knownServerTime(notAfter, slot, now);
    if (notAfterMs === undefined) return false;
    args[notAfterAt] = String(notAfterMs);
    return true;
  }

  /** Tries until the script is answered, or the deadline has passed. */
  private async persist(call: ScriptCall, first?: AttemptOutcome): Promise<unknown> {
    for (let attempt = 1; ; attempt++) {
      const { answer, error } = attempt === 1 && first ? first : await this.attempt(call);
      if (!answer) {
        await this.recover(call, error, attempt);
      } else if (isTooLate(answer.reply)) {
        // The server's clock may have stepped since the limit was computed.
        call.cause = new Error(`${call.script.name} arrived after its time limit`);
        notDone(call, call.unanswered, call.cause);
        if (call.notAfter.passed) throw this.notMade(call, this.connection.unavailable(call.cause));
        await this.connection.relearnClock(call.slot, call.deadline).catch(() => undefined);
      } else {
        const reply = this.accept(call, answer);
        if (!call.durability || answer.replicas >= call.durability.replicas) return reply;
        await this.replicateAgain(call, answer, reply);
      }
    }
  }

  /**
   * Waits until it can be sent, and sends it.
   * @throws the error of {@link notMade} if it was not sent
   */
  private async attempt(call: ScriptCall): Promise<AttemptOutcome> {
    const { connection } = this;
    const { deadline } = call;
    try {
      while (!this.canSendNow(call)) {
        if (deadline.passed) throw connection.unavailable(call.cause);
        await connection.ready(deadline);
        if (call.notAfterAt !== -1) await connection.inServerTime(deadline, call.slot);
      }
    } catch (error) {
      throw this.notMade(call, error as Error);
    }
    if (call.unanswered) keepMarker(call);
    const late = (): Error => call.notReplicated ?? this.unknown(call, call.cause);
    if (call.progress) call.progress.mayBeDone = true;
    try {
      if (call.durability) return { answer: await this.sendDurably(call, call.durability, late) };
      const { script, keys, args, slot, withText, isBatch } = call;
      const reply = new Promise((answered, failed) =>
        this.sender.send({ script, keys, args, slot, withText, isBatch, deadline, answered, failed }),
      );
      return { answer: { reply: await deadline.race(reply, late), replicas: 0 } };
    } catch (error) {
      return { error };
    }
  }

  /** Prepares the next attempt. @throws the error of the call if there can be none */
  private async recover(call: ScriptCall, error: unknown, attempt: number): Promise<void> {
    if (!(error instanceof Error)) throw error;
    const mayHaveArrived = error !== NOT_SENT && isConnectionLoss(error);
    notDone(call, call.unanswered || mayHaveArrived, error);
    if (error === NOT_SENT) return;
    const { connection } = this;
    const { script, deadline, durability } = call;
    call.cause = error;
    if (error instanceof RedisUnavailableError && durability && !deadline.passed) {
      // There is no dedicated connection to that server yet, or another server has the slot.
      if (error.cause instanceof Error) call.cause = error.cause;
      await connection.refreshTopology(deadline);
    } else if (error instanceof AtomicRedisError) {
      throw error.outcome === 'not-applied' ? this.notMade(call, error) : error;
    } else if (isUnknownScript(error)) {
      call.withText = true;
      return;
    } else if (mayHaveArrived) {
      if (!call.resend) throw this.unknown(call, error);
      call.unanswered = !script.readOnly;
      await connection.refreshTopology(deadline);
    } else if (!isTransientRefusal(error) && !mayYetArrive(call)) {
      throw this.notMade(call, toScriptError(error, script));
    } else if (durability) {
      // A connection to one server follows no redirections.
      await connection.refreshTopology(deadline);
    }
    const isRefused = isTransientRefusal(error) && !mayYetArrive(call);
    const leftMs = deadline.remainingMs - (isRefused ? MIN_REPLY_MS : 0);
    const pauseMs = fullJitter(attempt, 1, 100);
    await sleep(Math.min(pauseMs, Math.max(0, leftMs)));
    if (isRefused && pauseMs >= leftMs) throw this.notMade(call, connection.unavailable(call.cause));
  }

  /** Returns the caller's result. */
  private accept({ script, unanswered }: ScriptCall, { reply }: Acknowledged): unknown {
    const result = script.reply(reply);
    if (unanswered)
      this.connection.observer.occurred({
        type: 'outcome.resolved',
        command: script.name,
        outcome: 'applied',
      });
    return result;
  }

  /**
   * Prepares another attempt if the wait for replicas was cut off: the server that has the slot now
   * knows the call, or makes it.
   * @throws NotReplicatedError otherwise
   */
  private async replicateAgain(
    call: ScriptCall,
    { replicas, cause }: Acknowledged,
    reply: unknown,
  ): Promise<void> {
    const { script, deadline, durability } = call;
    call.notReplicated = new NotReplicatedError(script.name, durability!.replicas, replicas, reply, {
      cause,
    });
    if (!call.resend || !isConnectionLoss(cause) || deadline.passed) throw call.notReplicated;
    call.unanswered = true;
    call.cause = cause as Error;
    await this.connection.refreshTopology(deadline);
  }

  /** @throws the error of `late` if there is no answer in time */
  private async sendDurably(
    call: ScriptCall,
    durability: DurabilityOptions,
    late: () => Error,
  ): Promise<Acknowledged> {
    const { script, keys, args, slot, deadline } = call;
    const channel = await this.connection.durableChannel(slot, durability, deadline);
    const send = (client: RedisClient): Promise<unknown> =>
      this.sender.write(client, script, keys, args, call.withText);
    return await channel.send(send, durability, deadline, (wasSent) =>
      wasSent ? late() : this.connection.unavailable(),
    );
  }

  /**
   * Returns the error for an attempt that was not made. An earlier one may have taken effect, or
   * has.
   */
  private notMade(call: ScriptCall, error: Error): Error {
    return call.notReplicated ?? (call.unanswered ? this.unknown(call, error) : error);
  }

  private unknown({ script }: ScriptCall, cause?: Error): AtomicRedisError {
    if (script.readOnly) return this.connection.unavailable(cause);
    return new OutcomeUnknownError(
      `${script.name} was sent to Redis at ${this.connection.address} and not answered in time; it may have taken effect`,
      { cause },
    );
  }
}

/**
 * Returns true if an earlier attempt may be under way, up to its time limit. Then no refusal of a
 * copy is the end: more copies are sent. Either one is answered, or the outcome is unknown once
 * nothing can take effect any more, so that what the caller finds is final.
 */
const mayYetArrive = ({ unanswered, notAfterAt }: ScriptCall): boolean => unanswered && notAfterAt !== -1;

/** Notes for the owner of a call that the last attempt failed. */
function notDone({ progress }: ScriptCall, mayBeDone: boolean, cause: Error): void {
  if (!progress) return;
  progress.mayBeDone = mayBeDone;
  progress.refusal = mayBeDone ? undefined : cause;
}

/** Makes the copy keep its answer, also if the first did not: more than one may arrive now. */
function keepMarker({ script, args }: ScriptCall): void {
  const at = script.args.indexOf(KEEP_MARKER);
  if (at !== -1) args[at] = '1';
}
