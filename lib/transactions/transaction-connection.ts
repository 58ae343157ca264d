import { bytesToWrite, patienceFor, pendingOf } from '../connection/pending-commands.js';
import { isWritable } from '../connection/client.js';
import type { QueuedCommand } from '../scripting/commit-participant.js';
import { assertReadable } from '../scripting/readable-arguments.js';
import { Command, type Redis } from 'ioredis';
import type { CommitMarker } from './commit-marker.js';
import type { DeadlineKey } from './deadline-key.js';
import type { TransactionServer } from './transaction-server.js';

/**
 * The bound of text that is put together before it is written, in characters: a string cannot hold
 * any number of large values.
 */
const MAX_TEXT = 1_024 * 1_024;

/**
 * The opening of an attempt, which learns when it is written: the work may hold the event loop
 * before that.
 */
export interface Opening {
  /**
   * Called as it is written.
   * @returns the command that it begins with, made again; undefined if the old one is still right
   */
  written(now: number): Command | undefined;
}

/**
 * A connection that transactions take turns on, with its marker. Commands of one tick leave as one
 * piece of text: the write costs most, and a string or a Buffer for each command would cost more
 * than joining them.
 */
export class TransactionConnection {
  /**
   * Transactions that still use it: at most two. One has written EXEC and handed it on; the WATCH
   * of the next goes out behind that.
   */
  users = 0;
  /**
   * The lease of the transaction that it is lent to, with the number of transactions inside that
   * wait for a connection.
   */
  lease: { readonly waitingInside: number } | undefined;
  /** It is not lent any more, and closed as soon as it has no users. */
  isDropped = false;
  private isDiscarded = false;
  private isRetired = false;
  /** Sent in this tick, and not yet written. */
  private text = '';
  private isGathering = false;
  private opening: Opening | undefined;
  /** Offset in the text of the command that it begins with. */
  private openingAt = 0;
  private openingEnd = 0;

  constructor(
    private readonly redis: Redis,
    readonly marker: CommitMarker,
    readonly deadlineKey: DeadlineKey,
    readonly server: TransactionServer,
    /** The most arguments that one command may have. */
    private readonly maxArguments = Infinity,
  ) {}

  /** For direct writes. Flushes pending commands first to preserve order. */
  get client(): Redis {
    this.flush();
    return this.redis;
  }

  get isReady(): boolean {
    return !this.isDiscarded && !this.isRetired && isWritable(this.redis);
  }

  /** Another number whenever bytes have moved on it. */
  get progress(): number {
    const { stream } = this.redis;
    return stream.bytesRead - bytesToWrite(stream);
  }

  /** True while a request on the connection has no answer. */
  get owesAnswers(): boolean {
    return pendingOf(this.redis).length > 0;
  }

  /**
   * The longest time for which an unanswered command may be on its way without a sign, in
   * milliseconds.
   */
  get sendingMs(): number {
    return patienceFor(this.redis);
  }

  /**
   * Takes it out of use without losing the answers that are still to come on it. It commits nothing
   * more.
   */
  retire(): void {
    this.isRetired = true;
    this.isDropped = true;
    if (this.users === 0) this.discard();
  }

  discard(): void {
    if (this.isDiscarded) return;
    this.flush();
    this.isDiscarded = true;
    this.redis.disconnect();
  }

  /** @throws InvalidArgumentError for more arguments than the server reads */
  command(
    name: string,
    args: readonly unknown[] = [],
    replyEncoding: BufferEncoding | null = 'utf8',
  ): Command {
    const { keyPrefix } = this.redis.options;
    const command = new Command(name, args as string[], { keyPrefix, replyEncoding });
    assertReadable(name, command.args.length, this.maxArguments);
    return command;
  }

  /** @throws InvalidArgumentError for a command with more arguments than the server reads */
  assertReadable(commands: readonly QueuedCommand[]): void {
    if (this.maxArguments < Infinity) for (const { name, args } of commands) this.command(name, args);
  }

  /** Sends it with whatever else is sent in this tick. */
  send(command: Command): Promise<unknown> {
    if (!this.isGathering) {
      this.isGathering = true;
      process.nextTick(() => {
        this.isGathering = false;
        this.flush();
      });
    }
    return this.redis.sendCommand(command, this.sink) as Promise<unknown>;
  }

  /**
   * Sends the first commands of an attempt, with `command` in place of its first one if that had to
   * be made again.
   */
  open(opening: Opening, command: Command | undefined): Promise<unknown> | undefined {
    if (this.opening) this.flush();
    const from = this.text.length;
    const answer = command && this.send(command);
    this.openingEnd = this.text.length;
    // Shorter where there was no room for it: what stood before is written.
    this.openingAt = this.openingEnd < from ? 0 : from;
    this.opening = opening;
    return answer;
  }

  private readonly sink = {
    write: (piece: string | Buffer): void => {
      if (typeof piece !== 'string') return void this.client.stream.write(piece);
      if (this.text.length + piece.length > MAX_TEXT) this.flush();
      this.text += piece;
    },
  } as unknown as Redis['stream'];

  private flush(): void {
    const { text, opening } = this;
    if (text === '') return;
    this.text = '';
    this.opening = undefined;
    const anew = opening?.written(performance.now());
    this.redis.stream.write(anew ? this.withOpening(text, anew) : text);
  }

  private withOpening(text: string, command: Command): string {
    const { openingAt, openingEnd } = this;
    // Refused by the client, it is not waited for.
    if (openingAt === openingEnd) return text;
    const piece = String(command.toWritable(this.redis.stream));
    return text.slice(0, openingAt) + piece + text.slice(openingEnd);
  }
}
