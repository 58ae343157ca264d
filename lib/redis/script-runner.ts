import {
  AtomicRedisError,
  NotReplicatedError,
  OutcomeUnknownError,
  RedisUnavailableError,
} from '../atomic-redis.errors.js';
import type { RedisClient } from './client.js';
import { Deadline, fullJitter, sleep } from './deadline.js';
import type { DurabilityOptions } from './durability.js';
import type { Acknowledged } from './durable-channel.js';
import type { RedisConnection } from './redis-connection.js';
import { isConnectionLoss, isTransientRefusal, isUnknownScript, toScriptError } from './reply-errors.js';
import {
  NOT_AFTER,
  orderedArguments,
  orderedKeys,
  TOO_LATE,
  type ArgumentsOf,
  type NamedValues,
  type Script,
} from './script.js';

export interface SendOptions {
  /**
   * Whether a script whose connection was lost before it answered is sent again. Without, it must not recognise itself, and is at once
   * reported as unknown. @default true
   */
  resend?: boolean;
  /** Answers only once replicas have what the script did. Default: not waited for. */
  durability?: DurabilityOptions | undefined;
}

/**
 * Nothing that was refused is sent again when less than this is left: not answered in time, its outcome would be unknown, where that of the refused one is known.
 */
const ANSWER_MS = 20;

type Call = (client: RedisClient) => Promise<unknown>;

/** Where a script goes, and how. */
interface Sending {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly (string | Buffer)[];
  readonly slot: number;
  readonly deadline: Deadline;
}

/**
 * Sends scripts over the shared connection, by EVALSHA, until they are answered or their deadline has passed.
 *
 * A script may therefore arrive twice or late. It must have the effect of once: by a token or a sequence number in its
 * arguments, and by doing nothing past its `notAfterMs`, which the runner derives from the deadline.
 */
export class ScriptRunner {
  constructor(private readonly connection: RedisConnection) {}

  /**
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws RedisUnavailableError when it was never sent, or arrived too late and did nothing
   * @throws OutcomeUnknownError when it was sent and no answer came by the deadline, or before its connection was lost and it is not to be sent again
   * @throws NotReplicatedError when it was answered, and `durability` was not reached in time
   * @throws RedisReplyError when Redis refused it
   */
  async run<Keys extends readonly string[], Args extends readonly string[], Reply>(
    script: Script<Keys, Args, Reply>,
    keys: NamedValues<Keys, string>,
    args: ArgumentsOf<Args>,
    deadline: Deadline,
    { resend = true, durability }: SendOptions = {},
  ): Promise<Reply> {
    const keyList = orderedKeys(script, keys);
    const hasTimeLimit = script.args.includes(NOT_AFTER);
    // Before any I/O: a placeholder stands for the time limit that is filled in below.
    const argumentList = orderedArguments(script, hasTimeLimit ? { ...args, [NOT_AFTER]: 0 } : args);
    const slot =
      this.connection.isCluster && keyList.length > 0 ? this.connection.keys.commonSlotOf(keyList) : 0;
    const sending = { script, keys: keyList, args: argumentList, slot, deadline };

    let loadWithCall = false;
    let unanswered = false;
    let cause: Error | undefined;
    let notReplicated: NotReplicatedError | undefined;
    // This attempt was not made, but one before it may have taken effect, or has.
    const notMade = (error: Error): Error =>
      notReplicated ?? (unanswered ? this.unknown(script, error) : error);
    for (let attempt = 1; ; attempt++) {
      try {
        if (!this.connection.isReady || deadline.passed) await this.ready(deadline, cause);
        if (hasTimeLimit) {
          const { connection } = this;
          const notAfterMs =
            connection.knownServerTime(deadline, slot) ?? (await connection.inServerTime(deadline, slot));
          argumentList[script.args.indexOf(NOT_AFTER)] = String(notAfterMs);
          if (!connection.isReady) continue;
        }
      } catch (error) {
        throw notMade(error as Error);
      }
      let answer: Acknowledged;
      try {
        const late = (): Error => notReplicated ?? this.unknown(script, cause);
        const call = this.callOf(sending, loadWithCall);
        answer = durability
          ? await this.sendDurably(call, sending, durability, late)
          : { reply: await this.sendShared(call, deadline, late), replicas: 0 };
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        cause = error;
        if (error instanceof RedisUnavailableError && durability && !deadline.passed) {
          // There is no connection of its own to that server yet, or another has the slot.
          if (error.cause instanceof Error) cause = error.cause;
          await this.connection.refreshTopology(deadline);
        } else if (error instanceof AtomicRedisError) {
          throw error.outcome === 'not-applied' ? notMade(error) : error;
        } else if (isUnknownScript(error)) {
          loadWithCall = true;
          continue;
        } else if (isConnectionLoss(error)) {
          if (!resend) throw this.unknown(script, error);
          unanswered = !script.readOnly;
          await this.connection.refreshTopology(deadline);
        } else if (!isTransientRefusal(error)) {
          throw notMade(toScriptError(error, script));
        } else if (durability) {
          // Nobody follows redirections on a connection to one server.
          await this.connection.refreshTopology(deadline);
        }
        const leftMs = deadline.remainingMs - (isTransientRefusal(error) ? ANSWER_MS : 0);
        const pauseMs = fullJitter(attempt, 1, 100);
        await sleep(Math.min(pauseMs, Math.max(0, leftMs)));
        if (isTransientRefusal(error) && pauseMs >= leftMs) throw notMade(this.connection.unavailable(cause));
        continue;
      }
      if (!isTooLate(answer.reply)) {
        const reply = script.reply(answer.reply);
        if (unanswered)
          this.connection.observer.occurred({
            type: 'outcome.resolved',
            command: script.name,
            outcome: 'applied',
          });
        if (!durability || answer.replicas >= durability.replicas) return reply;
        notReplicated = new NotReplicatedError(script.name, durability.replicas, answer.replicas, reply, {
          cause: answer.cause,
        });
        if (!resend || !isConnectionLoss(answer.cause) || deadline.passed) throw notReplicated;
        // Lost while it waited: whoever has the slot now is asked again, and knows it or does it.
        unanswered = true;
        cause = answer.cause as Error;
        await this.connection.refreshTopology(deadline);
        continue;
      }
      // The clock that gave the limit may have been stepped since.
      cause = new Error(`${script.name} arrived after its time limit`);
      await this.connection.relearnClock(slot, deadline).catch(() => undefined);
    }
  }

  private callOf({ script, keys, args }: Sending, withText: boolean): Call {
    const command = `${withText ? 'EVAL' : 'EVALSHA'}${script.readOnly ? '_RO' : ''}`;
    return (client) =>
      this.connection.observer.roundTrip(command, () =>
        callScript(client, command, withText ? script.lua : script.sha, script.binary, keys, args),
      );
  }

  /** @throws what `late` makes when there is no answer in time */
  private sendShared(call: Call, deadline: Deadline, late: () => Error): Promise<unknown> {
    this.connection.gatherWrites();
    return deadline.race(call(this.connection.client), late);
  }

  /** @throws what `late` makes when there is no answer in time */
  private async sendDurably(
    call: Call,
    { slot, deadline }: Sending,
    durability: DurabilityOptions,
    late: () => Error,
  ): Promise<Acknowledged> {
    const channel = await this.connection.durableChannel(slot, durability, deadline);
    return await channel.send(call, durability, deadline, (wasSent) =>
      wasSent ? late() : this.connection.unavailable(),
    );
  }

  private async ready(deadline: Deadline, cause?: Error): Promise<void> {
    if (deadline.passed) throw this.connection.unavailable(cause);
    await this.connection.ready(deadline);
  }

  private unknown(script: Script, cause?: Error): AtomicRedisError {
    if (script.readOnly) return this.connection.unavailable(cause);
    return new OutcomeUnknownError(
      `${script.name} was sent to Redis at ${this.connection.address} and not answered in time; it may have taken effect`,
      { cause },
    );
  }
}

function callScript(
  client: RedisClient,
  command: string,
  textOrSha: string,
  binary: boolean,
  keys: readonly string[],
  args: readonly (string | Buffer)[],
): Promise<unknown> {
  // As one list: a hundred thousand and more would not all fit onto the stack.
  const rest = [textOrSha, keys.length, ...keys, ...args];
  return binary ? client.callBuffer(command, rest) : client.call(command, rest);
}

const isTooLate = (raw: unknown): boolean => {
  const first: unknown = Array.isArray(raw) ? raw[0] : raw;
  return first === TOO_LATE || (Buffer.isBuffer(first) && first.toString() === TOO_LATE);
};
