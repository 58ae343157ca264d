import { IllegalTransactionStateError } from '../atomic-redis.errors.js';
import type { QueuedPushOptions } from '../scripting/queued-push.js';
import { untilAborted } from '../runtime/deadline.js';
import type { Lease } from './lease.js';
import { repliesTo } from './exec-replies.js';
import { OpenTransaction, type WholeTransaction } from './open-transaction.js';
import type { TransactionOptions } from './transaction.options.js';
import { anySignal } from '../runtime/any-signal.js';

/**
 * Options that are about the one EXEC of the transaction that is joined, and about its attempts.
 */
const OF_ITS_EXEC = ['completesRun', 'completesStep', 'completesJob', 'permit', 'durability'] as const;
const OF_ITS_ATTEMPTS = ['timeoutMs', 'maxAttempts', 'backoff'] as const;

/**
 * @throws IllegalTransactionStateError for an option that a transaction cannot have which joins
 * another one
 */
export function checkJoinOptions(options: TransactionOptions): void {
  const ofExec = OF_ITS_EXEC.find((option) => options[option] !== undefined);
  const option = ofExec ?? OF_ITS_ATTEMPTS.find((one) => options[one] !== undefined);
  if (option === undefined) return;
  throw new IllegalTransactionStateError(
    `${option} belongs to the outermost transaction, which has the ${ofExec ? 'EXEC' : 'attempts'}. ` +
      `Set it there, or pass propagation: 'new'`,
  );
}

/**
 * A transaction that has become a part of another one. Its writes and replies are its own, wherever
 * they stand among those of others.
 */
export class JoinedTransaction extends OpenTransaction {
  private hasEnded = false;
  private hasFailed = false;

  constructor(
    override readonly outer: OpenTransaction,
    private readonly options: TransactionOptions,
  ) {
    super();
  }

  /**
   * Runs its work. When that throws, its writes are dropped, even if the surrounding work catches
   * the error.
   */
  async run<T>(keys: readonly string[], work: (tx: JoinedTransaction) => Promise<T> | T): Promise<T> {
    const { signal, onReplies, requireReplies, validateReads } = this.options;
    const { whole } = this;
    const wholeWork = async (): Promise<T> => {
      await this.outer.watchAll(keys);
      signal?.throwIfAborted();
      const value = await work(this);
      if (this.isJoining) await this.joined();
      return value;
    };
    try {
      signal?.throwIfAborted();
      const value = signal ? await untilAborted(wholeWork(), signal) : await wholeWork();
      if (onReplies)
        whole.onCommitted((all) => {
          // One around it, which has joined as well, may have failed since.
          if (!this.isDropped) onReplies(repliesTo(whole.commandsOf(this), all));
        });
      if (requireReplies) whole.requireReplies = true;
      if (validateReads) whole.validateReads = true;
      return value;
    } catch (error) {
      this.hasFailed = true;
      throw error;
    } finally {
      this.hasEnded = true;
    }
  }

  override get isOpen(): boolean {
    return !this.hasEnded && this.outer.isOpen;
  }

  override get isDropped(): boolean {
    return this.hasFailed || this.outer.isDropped;
  }

  override get lease(): Lease | undefined {
    return this.outer.lease;
  }

  override get attempt(): number {
    return this.outer.attempt;
  }

  override get signal(): AbortSignal {
    const { signal } = this.options;
    return signal ? anySignal(signal, this.outer.signal) : this.outer.signal;
  }

  override get whole(): WholeTransaction {
    return this.outer.whole;
  }

  override sendRead(name: string, args: unknown[]): Promise<unknown> {
    this.assertOpen(`read.${name}`);
    return this.outer.sendRead(name, args);
  }

  override enqueue(name: string, args: unknown[], owner: OpenTransaction): unknown {
    this.assertOpen(`write.${name}`);
    return this.outer.enqueue(name, args, owner);
  }

  override enqueuePush(
    queue: unknown,
    payload: unknown,
    options: QueuedPushOptions,
    owner: OpenTransaction,
  ): string {
    this.assertOpen('push');
    return this.outer.enqueuePush(queue, payload, options, owner);
  }

  override async watchAll(keys: readonly string[]): Promise<void> {
    this.assertOpen('watch');
    await this.outer.watchAll(keys);
  }

  private assertOpen(what: string): void {
    if (!this.hasEnded) return;
    throw new IllegalTransactionStateError(
      `tx.${what} was called after its joined transaction had ended; await everything inside the work`,
    );
  }
}
