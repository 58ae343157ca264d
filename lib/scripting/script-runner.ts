import { AsyncLocalStorage } from 'node:async_hooks';
import {
  AtomicRedisError,
  NotReplicatedError,
  OutcomeUnknownError,
  RedisUnavailableError,
} from '../atomic-redis.errors.js';
import type { RedisClient } from '../connection/client.js';
import { unschedule, schedule, type ScheduledCall } from '../runtime/timer-queue.js';
import { fullJitter, sleep, type Deadline } from '../runtime/deadline.js';
import { copyDurability, type DurabilityOptions } from '../connection/durability.js';
import type { Acknowledged } from '../connection/durable-channel.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import {
  isConnectionLoss,
  isTransientRefusal,
  isUnknownScript,
  toScriptError,
} from '../connection/reply-errors.js';
import {
  NOT_AFTER,
  orderedArguments,
  orderedKeys,
  TOO_LATE,
  type ArgumentsOf,
  type NamedValues,
  type Script,
} from './script.js';
import { NOT_SENT, ScriptSender, type Sendable } from './script-sender.js';

/** What is known of a call that is under way. Its owner makes the object, the runner keeps it up to date. */
export interface CallProgress {
  /** Whether the call may have taken effect. False while it waits to be sent, again or for the first time. */
  mayBeDone: boolean;
  /** Why the last attempt came to nothing, where nothing can have been done by then. */
  refusal: Error | undefined;
}

export interface SendOptions {
  /**
   * Whether a script whose connection was lost before it answered is sent again. Without, it must not recognise itself, and is at once
   * reported as unknown. @default true
   */
  resend?: boolean;
  /** Answers only once replicas have what the script did. Default: not waited for. */
  durability?: DurabilityOptions | undefined;
  /** For an owner that gives up parts of the call before its deadline. */
  progress?: CallProgress | undefined;
}

/**
 * Nothing that was refused is sent again when less than this is left: not answered in time, its outcome would be unknown, where that of the refused one is known.
 */
export const MIN_REPLY_MS = 50;

/** One call of a script, and what has become of it so far. */
interface ScriptCall extends Sendable {
  readonly args: (string | Buffer)[];
  /** Where in `args` the time limit stands; -1 without one. */
  readonly notAfterAt: number;
  readonly deadline: Deadline;
  readonly resend: boolean;
  readonly durability: DurabilityOptions | undefined;
  readonly progress: CallProgress | undefined;
  withText: boolean;
  /** It was sent, and not answered: it may have taken effect, or may yet, up to its time limit. */
  unanswered: boolean;
  /** Why the last attempt came to nothing. */
  cause: Error | undefined;
  /** It has taken effect, and replicas did not have it in time. */
  notReplicated: NotReplicatedError | undefined;
}

/** What an attempt came to. */
type AttemptOutcome =
  | { readonly answer: Acknowledged; readonly error?: undefined }
  | { readonly answer?: undefined; readonly error: unknown };

/**
 * Sends scripts over the shared connection, by EVALSHA, until they are answered or their deadline has passed.
 *
 * A script may therefore arrive twice or late. It must have the effect of once: by a token or a sequence number in its
 * arguments, and by doing nothing past its `notAfterMs`, which the runner derives from the deadline.
 */
export class ScriptRunner {
  private readonly sender: ScriptSender;

  constructor(private readonly connection: RedisConnection) {
    this.sender = new ScriptSender(connection);
  }

  /**
   * Runs a script. What it is given is copied before this returns.
   *
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws RedisUnavailableError when it was never sent, or arrived too late and did nothing
   * @throws OutcomeUnknownError when it was sent and no answer came by the deadline, or before its connection was lost and it is not to be sent again
   * @throws NotReplicatedError when it was answered, and `durability` was not reached in time
   * @throws RedisReplyError when Redis refused it
   */
  run<Keys extends readonly string[], Args extends readonly string[], Reply>(
    script: Script<Keys, Args, Reply>,
    keys: NamedValues<Keys, string>,
    args: ArgumentsOf<Args>,
    deadline: Deadline,
    { resend = true, durability, progress }: SendOptions = {},
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const { connection } = this;
      const keyList = orderedKeys(script, keys);
      let alarm: ScheduledCall | undefined;
      // Calls that leave together are answered in the surroundings of the first; what happens on the way is told in those of each.
      const inOwn: typeof here = connection.observer.isWatching ? AsyncLocalStorage.snapshot() : here;
      const goOn = (outcome?: AttemptOutcome): void => {
        // Unless its deadline has passed, of which its caller was told.
        if (!alarm || unschedule(alarm)) resolve(inOwn(() => this.persist(call, outcome)) as Promise<Reply>);
      };
      const call: ScriptCall = {
        script,
        keys: keyList,
        args: orderedArguments(script, args),
        notAfterAt: script.args.indexOf(NOT_AFTER),
        slot: connection.isCluster && keyList.length > 0 ? connection.keys.commonSlotOf(keyList) : 0,
        deadline,
        resend,
        durability: durability && copyDurability(durability),
        progress,
        withText: false,
        unanswered: false,
        cause: undefined,
        notReplicated: undefined,
        answered: (reply) => {
          if (isTooLate(reply)) return goOn({ answer: { reply, replicas: 0 } });
          unschedule(alarm!);
          try {
            resolve(script.reply(reply));
          } catch (error) {
            reject(error);
          }
        },
        failed: (error) => goOn({ error }),
      };
      if (durability || !this.canSendNow(call)) return goOn();
      // As nearly all calls go: sent at once, and answered, without a promise that nobody asked for.
      alarm = schedule(deadline.at, () => reject(this.unknown(call)));
      if (progress) progress.mayBeDone = true;
      this.sender.send(call);
    });
  }

  /** Whether it can be written in this turn; its time limit is then filled in. */
  private canSendNow({ args, notAfterAt, slot, deadline }: ScriptCall): boolean {
    if (!this.connection.isReady || deadline.passed) return false;
    if (notAfterAt === -1) return true;
    const notAfterMs = this.connection.knownServerTime(deadline, slot);
    if (notAfterMs === undefined) return false;
    args[notAfterAt] = String(notAfterMs);
    return true;
  }

  /** Goes on until the script is answered, or is known not to be by the deadline. */
  private async persist(call: ScriptCall, first?: AttemptOutcome): Promise<unknown> {
    for (let attempt = 1; ; attempt++) {
      const { answer, error } = attempt === 1 && first ? first : await this.attempt(call);
      if (!answer) {
        await this.recover(call, error, attempt);
      } else if (isTooLate(answer.reply)) {
        // The clock that gave the limit may have been stepped since.
        call.cause = new Error(`${call.script.name} arrived after its time limit`);
        notDone(call, call.unanswered, call.cause);
        await this.connection.relearnClock(call.slot, call.deadline).catch(() => undefined);
      } else {
        const reply = this.accept(call, answer);
        if (!call.durability || answer.replicas >= call.durability.replicas) return reply;
        await this.replicateAgain(call, answer, reply);
      }
    }
  }

  /** Waits until it can be sent, and sends it. @throws what {@link notMade} makes of it when it was not sent */
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
    const late = (): Error => call.notReplicated ?? this.unknown(call, call.cause);
    if (call.progress) call.progress.mayBeDone = true;
    try {
      if (call.durability) return { answer: await this.sendDurably(call, call.durability, late) };
      const reply = new Promise((answered, failed) => this.sender.send({ ...call, answered, failed }));
      return { answer: { reply: await deadline.race(reply, late), replicas: 0 } };
    } catch (error) {
      return { error };
    }
  }

  /** Makes ready for the next attempt, where there may be one. @throws what the call comes to otherwise */
  private async recover(call: ScriptCall, error: unknown, attempt: number): Promise<void> {
    if (!(error instanceof Error)) throw error;
    const mayHaveArrived = error !== NOT_SENT && isConnectionLoss(error);
    notDone(call, call.unanswered || mayHaveArrived, error);
    if (error === NOT_SENT) return;
    const { connection } = this;
    const { script, deadline, durability } = call;
    call.cause = error;
    if (error instanceof RedisUnavailableError && durability && !deadline.passed) {
      // There is no connection of its own to that server yet, or another has the slot.
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
    } else if (!isTransientRefusal(error)) {
      throw this.notMade(call, toScriptError(error, script));
    } else if (durability) {
      // Nobody follows redirections on a connection to one server.
      await connection.refreshTopology(deadline);
    }
    const leftMs = deadline.remainingMs - (isTransientRefusal(error) ? MIN_REPLY_MS : 0);
    const pauseMs = fullJitter(attempt, 1, 100);
    await sleep(Math.min(pauseMs, Math.max(0, leftMs)));
    if (isTransientRefusal(error) && pauseMs >= leftMs)
      throw this.notMade(call, connection.unavailable(call.cause));
  }

  /** What the caller is given. */
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

  /** Makes ready to ask whoever has the slot now, who knows it or does it, where the wait for replicas was cut off. @throws NotReplicatedError otherwise */
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

  /** @throws what `late` makes when there is no answer in time */
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

  /** For an attempt that was not made: one before it may have taken effect, or has. */
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

/** Tells the owner of a call that the last attempt came to nothing. */
function notDone({ progress }: ScriptCall, mayBeDone: boolean, cause: Error): void {
  if (!progress) return;
  progress.mayBeDone = mayBeDone;
  progress.refusal = mayBeDone ? undefined : cause;
}

const here = <R>(body: () => R): R => body();

const isTooLate = (raw: unknown): boolean => {
  const first: unknown = Array.isArray(raw) ? raw[0] : raw;
  return (
    first === TOO_LATE ||
    (Buffer.isBuffer(first) && first.length === TOO_LATE.length && first.toString() === TOO_LATE)
  );
};
