import type { RedisClient } from '../connection/client.js';
import { TickBatcher } from '../runtime/tick-batcher.js';
import { assertReadable } from './readable-arguments.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { isRefusedBeforehand, isUnknownScript, replyCode } from '../connection/reply-errors.js';
import { scriptBatchOf, type ScriptBatch } from './script-batch.js';
import type { Script } from './script.js';

/** A call that is to be written. Exactly one of `answered` and `failed` is called, not at once. */
export interface Sendable {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly (string | Buffer)[];
  /** On a Cluster. */
  readonly slot: number;
  /** The server does not know the script: its text is sent. */
  readonly withText: boolean;
  answered(reply: unknown): void;
  failed(error: unknown): void;
}

/** What a call fails with whose connection was lost before it was written: it is known not to have been sent. */
export const NOT_SENT = new Error('not sent');

/** How many calls leave in one write, and share one EVALSHA where they can: bounds how long the server is kept from others. */
const CALLS_PER_WRITE = 16;

/** Calls that bring more than this, in characters, leave by themselves. */
const LARGE_CALL = 4_096;

/**
 * Writes calls of scripts to the shared connection. Calls of one turn of the event loop leave
 * together, in their order. Calls of one script that follow each other leave as one EVALSHA, since a
 * command costs client and server more than a call does.
 */
export class ScriptSender {
  private readonly batcher = new TickBatcher<Sendable>({
    // The server works on these while the next are put together.
    maxSize: CALLS_PER_WRITE,
    send: (calls) => this.writeAll(calls),
  });

  constructor(private readonly connection: RedisConnection) {}

  send(call: Sendable): void {
    this.batcher.add(call, 1, undefined);
  }

  private writeAll(calls: readonly Sendable[]): void {
    const { connection } = this;
    if (!connection.isReady) {
      for (const call of calls) call.failed(NOT_SENT);
      return;
    }
    let from = 0;
    let end = endOfRow(calls, from);
    const releaseWrites = end < calls.length ? connection.holdWrites() : undefined;
    while (from < end) {
      const first = calls[from]!;
      const batch = end - from > 1 ? scriptBatchOf(first.script) : undefined;
      if (batch) this.writeBatch(batch, calls.slice(from, end), false);
      else this.writeOne(first);
      from = end;
      if (from < calls.length) end = endOfRow(calls, from);
    }
    releaseWrites?.();
  }

  private writeOne(call: Sendable): void {
    this.write(this.connection.client, call.script, call.keys, call.args, call.withText).then(
      (reply) => call.answered(reply),
      (error: unknown) => call.failed(error),
    );
  }

  private writeBatch(batch: ScriptBatch, calls: readonly Sendable[], withText: boolean): void {
    const { connection } = this;
    const keys = calls.flatMap((call) => call.keys);
    const args = calls.flatMap((call) => call.args);
    const answered = (replies: unknown): void => {
      for (const [i, reply] of (replies as readonly unknown[]).entries()) {
        if (reply instanceof Error) {
          // The client has not seen it.
          connection.refused(reply);
          calls[i]!.failed(reply);
        } else calls[i]!.answered(reply);
      }
    };
    const failed = (error: unknown): void => {
      if (!withText && isUnknownScript(error) && connection.isReady) this.writeBatch(batch, calls, true);
      else if (isOfOne(error))
        for (const call of calls)
          if (connection.isReady) this.writeOne(call);
          else call.failed(NOT_SENT);
      else for (const call of calls) call.failed(error);
    };
    this.write(connection.client, batch, keys, args, withText).then(answered, failed);
  }

  /** Writes a call by itself, to a client of its caller's choice. */
  write(
    client: RedisClient,
    script: Script,
    keys: readonly string[],
    args: readonly (string | Buffer)[],
    withText: boolean,
  ): Promise<unknown> {
    const command = `${withText ? 'EVAL' : 'EVALSHA'}${script.readOnly ? '_RO' : ''}`;
    // As one list: a hundred thousand and more would not all fit onto the stack.
    const rest = [withText ? script.lua : script.sha, keys.length, ...keys, ...args];
    try {
      assertReadable(script.name, rest.length, this.connection.maxArguments);
      return this.connection.observer.roundTrip(command, () =>
        script.binary ? client.callBuffer(command, rest) : client.call(command, rest),
      );
    } catch (error) {
      // Arguments too long for one text, or somebody's instrumentation of the client. Calls that wait behind this one are still to be written.
      return Promise.reject(error);
    }
  }
}

/**
 * Whether calls that share an EVALSHA were refused for the sake of one of them, before any was made. TRYAGAIN: their slot is being moved, and some of
 * their keys are here, some there. NOPERM: the user may not touch some key of theirs. Each by itself gets its own answer.
 */
const isOfOne = (error: unknown): boolean =>
  isRefusedBeforehand(error) && ['TRYAGAIN', 'NOPERM'].includes(replyCode(error) ?? '');

/** Returns the place behind the calls that share an EVALSHA with the one at `from`. */
function endOfRow(calls: readonly Sendable[], from: number): number {
  let end = from + 1;
  while (end < calls.length && canShare(calls[from]!, calls[end]!)) end++;
  return end;
}

function canShare(first: Sendable, next: Sendable): boolean {
  return (
    next.script === first.script &&
    next.slot === first.slot &&
    !next.withText &&
    !first.withText &&
    scriptBatchOf(next.script) !== undefined &&
    isSmall(first) &&
    isSmall(next)
  );
}

function isSmall({ args }: Sendable): boolean {
  let size = 0;
  for (const arg of args) size += arg.length;
  return size <= LARGE_CALL;
}
