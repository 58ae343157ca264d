import type { NotReplicatedError } from '../atomic-redis.errors.js';
import type { Acknowledged } from '../connection/durable-channel.js';
import { copyDurability, type DurabilityOptions } from '../connection/durability.js';
import type { Deadline } from '../runtime/deadline.js';
import { arm, unschedule, type ScheduledCall } from '../runtime/timer-queue.js';
import { NOT_AFTER, TOO_LATE, type Script } from './script.js';
import type { Sendable } from './script-sender.js';

/**
 * The state of a call that is under way. Its owner creates the object, and the runner keeps it up
 * to date.
 */
export interface CallProgress {
  /**
   * True if the call may have taken effect. False while it waits to be sent, again or for the first
   * time.
   */
  mayBeDone: boolean;
  /** The reason why the last attempt failed, if nothing can have taken effect by then. */
  refusal: Error | undefined;
}

export interface SendOptions {
  /**
   * Send a script again whose connection was lost before it answered. False for a script that does
   * not recognise a copy of itself: a lost connection is then reported as unknown at once.
   * @default true
   */
  resend?: boolean;
  /** Answer only once replicas have the script's changes. Default: do not wait for them. */
  durability?: DurabilityOptions | undefined;
  /**
   * The end of the time in which it may take effect, before that of the call. From then on a script
   * may answer its findings, and changes nothing. Default: the deadline of the call.
   */
  notAfter?: Deadline | undefined;
  /** Given by an owner that may give up parts of the call before its deadline. */
  progress?: CallProgress | undefined;
}

/** The end of an attempt. */
export type AttemptOutcome =
  | { readonly answer: Acknowledged; readonly error?: undefined }
  | { readonly answer?: undefined; readonly error: unknown };

/** Sees to the calls that their first attempt does not end. */
export interface CallKeeper {
  /** Continues by further attempts, and settles the call. */
  goOn(call: ScriptCall, first: AttemptOutcome): void;
  /** Rejects the call, which was not answered by its deadline. */
  late(call: ScriptCall): void;
}

/** One call of a script, and its state. It is also the alarm that rings at its deadline. */
export class ScriptCall implements Sendable, ScheduledCall {
  /** The place of the time limit in `args`; -1 without one. */
  readonly notAfterAt: number;
  readonly notAfter: Deadline;
  readonly resend: boolean;
  readonly durability: DurabilityOptions | undefined;
  readonly progress: CallProgress | undefined;
  withText = false;
  /**
   * True if it was sent and not answered: it may have taken effect, or may yet, up to its time
   * limit.
   */
  unanswered = false;
  /** The reason why the last attempt failed. */
  cause: Error | undefined;
  /** Set if it has taken effect, and replicas did not have it in time. */
  notReplicated: NotReplicatedError | undefined;
  readonly at: number;
  index = -1;
  /**
   * Runs a function in the asynchronous context of the call; undefined where nobody would see
   * another.
   */
  inOwnContext: (<T>(work: () => T) => T) | undefined;
  private isArmed = false;

  constructor(
    readonly script: Script,
    readonly keys: readonly string[],
    readonly args: (string | Buffer)[],
    readonly slot: number,
    readonly deadline: Deadline,
    { resend = true, durability, notAfter = deadline, progress }: SendOptions,
    private readonly keeper: CallKeeper,
    /** Exactly one of `resolve` and `reject` is called, once. */
    readonly resolve: (reply: unknown) => void,
    readonly reject: (error: unknown) => void,
  ) {
    this.notAfterAt = script.args.indexOf(NOT_AFTER);
    this.notAfter = notAfter;
    this.resend = resend;
    this.durability = durability && copyDurability(durability);
    this.progress = progress;
    this.at = deadline.at;
  }

  get isBatch(): boolean {
    return this.progress !== undefined;
  }

  /** Begins to wait for the deadline, which need not delay the write. */
  sent(): void {
    this.isArmed = true;
    arm(this);
  }

  answered(reply: unknown): void {
    // After the deadline the caller has had its error already.
    if (!unschedule(this)) return;
    if (isTooLate(reply)) return this.keeper.goOn(this, { answer: { reply, replicas: 0 } });
    let result: unknown;
    try {
      result = this.script.reply(reply);
    } catch (error) {
      return this.reject(error);
    }
    this.resolve(result);
  }

  failed(error: unknown): void {
    if (!this.isArmed || unschedule(this)) this.keeper.goOn(this, { error });
  }

  onDue(): void {
    this.keeper.late(this);
  }
}

export const isTooLate = (raw: unknown): boolean => {
  const first: unknown = Array.isArray(raw) ? raw[0] : raw;
  return (
    first === TOO_LATE ||
    (Buffer.isBuffer(first) && first.length === TOO_LATE.length && first.toString() === TOO_LATE)
  );
};
