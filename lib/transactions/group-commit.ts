import type { QueuedCommand } from '../scripting/commit-participant.js';
import type { Deadline } from '../runtime/deadline.js';
import type { Sent } from './exec-answer.js';
import type { CancellationToken } from './cancellation-token.js';

/** More of them would hold the event loop, and Redis, for too long at a time. */
const MAX_MEMBERS = 100;

/**
 * The bound of queued writes, in characters, above which no transaction joins. A write this large
 * is harmless alone; a hundred in one EXEC would stall the event loop and Redis.
 */
const MAX_CHARS = 256 * 1_024;

/**
 * Transactions with less than this time left, in milliseconds, do not join a group: they trigger
 * outcome resolution early, which would cost every member its replies or its attempt.
 */
export const MIN_SHARED_MS = 500;

/** A transaction whose writes leave behind those of the one that leads. */
export interface GroupMember {
  readonly queued: readonly QueuedCommand[];
  readonly stop: CancellationToken;
  readonly deadline: Deadline;
}

/**
 * Transactions of one key that one EXEC commits. The first one leads: it has watched the key and
 * read it. The transactions that waited for their turn then run one after the other, each on the
 * writes queued before it. All their writes leave together, in that order. So they take effect, or
 * meet a conflict, as one; no other client can change anything in between.
 *
 * A follower's read is answered only if the reply is certain: GET of a key for which a plain SET
 * has queued a value. The group waits for nothing else: the EXEC is written in the next turn of the
 * event loop, with the members that are done by then.
 */
export class GroupCommit {
  readonly queued: QueuedCommand[] = [];
  /** The values of keys after the queued commands, as far as they are certain. */
  private readonly values = new Map<string, string>();
  private readonly followers: GroupMember[] = [];
  private chars = 0;
  private hasLeft = false;
  private leave!: (sent: Sent | undefined) => void;
  /**
   * Resolves when the EXEC is written; with nothing when it is written without the followers, or
   * not at all.
   */
  readonly flushed = new Promise<Sent | undefined>((resolve) => (this.leave = resolve));

  constructor(
    queued: readonly QueuedCommand[],
    /** The time-out that its commit marker was armed for. */
    readonly timeoutMs: number,
    /**
     * Monotonic time by which its EXEC can take effect no more; a transaction whose deadline is
     * before that must not join.
     */
    readonly endsBy: number,
  ) {
    this.enqueue(queued);
  }

  get isOpen(): boolean {
    return !this.hasLeft && this.followers.length < MAX_MEMBERS && this.chars <= MAX_CHARS;
  }

  /**
   * True if others joined, and all of them still want to be committed.
   * @param graceMs the time for a reply
   */
  isCommon(graceMs: number): boolean {
    return (
      this.followers.length > 0 &&
      this.followers.every(({ stop, deadline }) => !stop.isCancelled && deadline.remainingMs > graceMs)
    );
  }

  /** @returns the place of its first command */
  join(follower: GroupMember): number {
    this.followers.push(follower);
    return this.enqueue(follower.queued);
  }

  /**
   * Returns the reply of a command behind those that are queued; undefined if only Redis can tell.
   */
  answer(name: string, args: readonly unknown[]): string | undefined {
    return name === 'get' && args.length === 1 && isText(args[0])
      ? this.values.get(text(args[0]))
      : undefined;
  }

  flush(sent: Sent | undefined): void {
    this.hasLeft = true;
    this.leave(sent);
  }

  private enqueue(commands: readonly QueuedCommand[]): number {
    const from = this.queued.length;
    for (const command of commands) {
      this.queued.push(command);
      this.chars += charsOf(command.args);
      this.note(command);
    }
    return from;
  }

  private note({ name, args }: QueuedCommand): void {
    const [key, value] = args;
    if (name === 'set' && args.length === 2 && isText(key) && isText(value))
      this.values.set(text(key), text(value));
    // A command can change no key that is not among its arguments.
    else for (const arg of args.flat(Infinity)) this.forget(arg);
  }

  private forget(key: unknown): void {
    if (isText(key) || Buffer.isBuffer(key)) this.values.delete(text(key));
    else this.values.clear();
  }
}

/**
 * True for values that the client sends as their usual text. Some versions write large integers in
 * full, others do not.
 */
const isText = (value: unknown): value is string | number | bigint =>
  typeof value === 'string' ||
  typeof value === 'bigint' ||
  (typeof value === 'number' && (Number.isSafeInteger(value) || !Number.isInteger(value)));

/** As Redis gives it back: half a surrogate pair has no form in UTF-8. */
const text = (value: string | number | bigint | Buffer): string => String(value).toWellFormed();

function charsOf(value: unknown): number {
  if (typeof value === 'string' || Buffer.isBuffer(value)) return value.length;
  if (typeof value !== 'object' || value === null) return 1;
  const parts = value instanceof Map ? [...value].flat() : Object.values(value);
  let chars = 0;
  for (const part of parts) chars += charsOf(part);
  return chars;
}
