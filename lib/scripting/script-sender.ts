import type { RedisClient } from '../connection/client.js';
import type { Deadline } from '../runtime/deadline.js';
import { TickBatcher } from '../runtime/tick-batcher.js';
import { assertReadable } from './readable-arguments.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { isRefusedBeforehand, isUnknownScript, replyCode } from '../connection/reply-errors.js';
import { scriptBatchOf, type ScriptBatch } from './script-batch.js';
import type { Script } from './script.js';

/**
 * A call to be written. Exactly one of `answered` and `failed` is called, later than `send`
 * returns.
 */
export interface Sendable {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly (string | Buffer)[];
  /** The hash slot, on a Cluster. */
  readonly slot: number;
  /** True if the server does not know the script, so that its text is sent. */
  readonly withText: boolean;
  /** True if it carries a batch, whose calls have waited for each other already. */
  readonly isBatch: boolean;
  readonly deadline: Deadline;
  /** Called once it is written for the first time. */
  sent?(): void;
  answered(reply: unknown): void;
  failed(error: unknown): void;
}

/** The error of a call whose connection was lost before it was written. It surely was not sent. */
export const NOT_SENT = new Error('not sent');

/**
 * The most calls that leave in one write, and share one EVALSHA if they can. Bounds the time for
 * which the server is kept from others.
 */
const CALLS_PER_WRITE = 16;

/** A call with larger arguments than this, in characters, has an EVALSHA of its own. */
const LARGE_CALL = 4_096;

/**
 * Writes calls of scripts to the shared connection. Calls of one turn of the event loop leave
 * together, in their order. Those of one script that follow each other leave as one EVALSHA, since
 * a command costs client and server more than a call does. A batch leaves at once where nothing is
 * under way.
 */
export class ScriptSender {
  private readonly batcher = new TickBatcher<Sendable>({
    // The server works on these while the next are put together.
    maxSize: CALLS_PER_WRITE,
    send: (calls) => this.writeAll(calls),
  });

  constructor(private readonly connection: RedisConnection) {}

  send(call: Sendable): void {
    if (call.isBatch && this.batcher.isEmpty && this.connection.isIdle) this.writeAll([call]);
    else this.batcher.add(call, 1, undefined);
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
    try {
      while (from < end) {
        const first = calls[from]!;
        const batch = end - from > 1 ? scriptBatchOf(first.script) : undefined;
        if (batch) this.writeBatch(batch, calls.slice(from, end), false);
        else this.writeOne(first);
        for (; from < end; from++) calls[from]!.sent?.();
        if (from < calls.length) end = endOfRow(calls, from);
      }
    } finally {
      releaseWrites?.();
    }
  }

  private writeOne(call: Sendable, withText = call.withText): void {
    const { connection } = this;
    this.write(connection.client, call.script, call.keys, call.args, withText).then(
      (reply) => call.answered(reply),
      (error: unknown) => {
        if (withText || !isUnknownScript(error) || !this.mayBeSentAgain(call)) return call.failed(error);
        // Not later, so that calls stay in their order.
        this.writeOne(call, true);
        this.loadAlso(scriptBatchOf(call.script));
      },
    );
  }

  private writeBatch(batch: ScriptBatch, calls: readonly Sendable[], withText: boolean): void {
    const { connection } = this;
    const keys = calls.flatMap((call) => call.keys);
    const args = calls.flatMap((call) => call.args);
    const answered = (replies: unknown): void => {
      for (const [i, reply] of (replies as readonly unknown[]).entries()) {
        if (reply instanceof Error) {
          // The client sees only errors that are whole replies.
          connection.refused(reply);
          calls[i]!.failed(reply);
        } else calls[i]!.answered(reply);
      }
    };
    const failed = (error: unknown): void => {
      if (!withText && isUnknownScript(error) && calls.every((call) => this.mayBeSentAgain(call))) {
        this.writeBatch(batch, calls, true);
        this.loadAlso(calls[0]!.script);
      } else if (isOfOne(error))
        for (const call of calls)
          if (connection.isReady) this.writeOne(call);
          else call.failed(NOT_SENT);
      else for (const call of calls) call.failed(error);
    };
    this.write(connection.client, batch, keys, args, withText).then(answered, failed);
  }

  /**
   * Loads the other form of a script that the server has lost, as it will have lost both. Known in
   * one form alone, the calls of one turn would change places: those of the known form are made at
   * once, the others are sent again.
   */
  private loadAlso(form: Script | undefined): void {
    const { client, isCluster } = this.connection;
    // A Cluster would load it on any one node.
    if (form && !isCluster) client.script('LOAD', form.lua).catch(() => undefined);
  }

  /** Returns false past its deadline: its caller has been told that its outcome is unknown. */
  private mayBeSentAgain({ deadline }: Sendable): boolean {
    return this.connection.isReady && !deadline.passed;
  }

  /** Writes one call to the given client. */
  write(
    client: RedisClient,
    script: Script,
    keys: readonly string[],
    args: readonly (string | Buffer)[],
    withText: boolean,
  ): Promise<unknown> {
    const command = commandOf(script, withText);
    // One list: as arguments of a call, a hundred thousand would overflow the stack.
    const rest = [withText ? script.lua : script.sha, keys.length, ...keys, ...args];
    try {
      assertReadable(script.name, rest.length, this.connection.maxArguments);
      return this.connection.observer.roundTrip(command, () =>
        script.binary ? client.callBuffer(command, rest) : client.call(command, rest),
      );
    } catch (error) {
      // Arguments too long for one text, or an instrumentation of the client that throws. The calls
      // behind this one must still be written.
      return Promise.reject(error);
    }
  }
}

/**
 * Names the command, as ioredis spells it. Of another spelling it would make this one several times
 * for each call.
 */
function commandOf({ readOnly }: Script, withText: boolean): string {
  if (withText) return readOnly ? 'eval_ro' : 'eval';
  return readOnly ? 'evalsha_ro' : 'evalsha';
}

/**
 * Returns true if calls that share an EVALSHA were refused because of one of them, before any was
 * made. TRYAGAIN: their slot is moving, and some of their keys are here, some there. NOPERM: the
 * user may not touch one of their keys. Sent alone, each gets its own answer.
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
