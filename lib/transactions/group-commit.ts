import type { QueuedCommand } from '../scripting/commit-participant.js';
import type { Deadline } from '../runtime/deadline.js';
import type { Sent } from './exec-answer.js';
import type { Stop } from './stop.js';

/** More of them would hold the event loop, and Redis, for too long at a time. */
const MAX_FOLLOWERS = 100;

/** Nobody joins writes of more than this, in characters, for the same reason: what one would do no harm with, a hundred might. */
const MAX_CHARS = 256 * 1_024;

/**
 * Who has less time left is committed by itself, in milliseconds: it has EXEC looked into from another connection early, and that
 * costs all whose EXEC it is their replies, or their attempt.
 */
export const MIN_SHARED_MS = 500;

/** A transaction whose writes leave behind those of the one that leads. */
export interface Follower {
  readonly queued: readonly QueuedCommand[];
  readonly stop: Stop;
  readonly deadline: Deadline;
}

/**
 * Transactions of one key that one EXEC commits. The first leads: it has watched the key and read it. Those that waited for their turn then run one
 * after the other on what stands queued before them, and all their writes leave together, in that order. So they take effect, or meet a
 * conflict, as one; in between nobody can have changed anything.
 *
 * What a follower reads is answered only where it is known for certain: GET of a key that a plain SET has queued a value for. It waits for nothing but
 * that, since the EXEC is written in the next turn of the event loop with whoever is done by then.
 */
export class GroupCommit {
  readonly queued: QueuedCommand[] = [];
  /** What keys hold when the queued commands have been applied, where that is known. */
  private readonly values = new Map<string, string>();
  private readonly followers: Follower[] = [];
  private chars = 0;
  private hasLeft = false;
  private leave!: (sent: Sent | undefined) => void;
  /** Resolves when the EXEC is written; with nothing when it is written without the followers, or not at all. */
  readonly departure = new Promise<Sent | undefined>((resolve) => (this.leave = resolve));

  constructor(
    queued: readonly QueuedCommand[],
    /** The time-out that its commit marker was armed for. */
    readonly timeoutMs: number,
    /** Monotonic time by which its EXEC can take effect no more; a transaction whose deadline is before that must not join. */
    readonly endsBy: number,
  ) {
    this.enqueue(queued);
  }

  get isOpen(): boolean {
    return !this.hasLeft && this.followers.length < MAX_FOLLOWERS && this.chars <= MAX_CHARS;
  }

  /**
   * Whether others joined, and all of them still want to be committed.
   * @param graceMs what an answer may take
   */
  isCommon(graceMs: number): boolean {
    return (
      this.followers.length > 0 &&
      this.followers.every(({ stop, deadline }) => !stop.isStopped && deadline.remainingMs > graceMs)
    );
  }

  /** @returns the place of its first command */
  join(follower: Follower): number {
    this.followers.push(follower);
    return this.enqueue(follower.queued);
  }

  /** What a command would answer behind those that are queued; undefined where only Redis can tell. */
  answer(name: string, args: readonly unknown[]): string | undefined {
    return name === 'get' && args.length === 1 && isText(args[0])
      ? this.values.get(text(args[0]))
      : undefined;
  }

  departed(sent: Sent | undefined): void {
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

/** What the client sends as its usual text; large integers it writes out in full, or not, as its version has it. */
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
