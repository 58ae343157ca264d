import {
  CrossSlotError,
  describe,
  InvalidArgumentError,
  IllegalTransactionStateError,
} from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import type { CommitParticipant } from '../scripting/commit-participant.js';
import { PREPARE_PUSH, preparesPushes, type PreparedPush } from '../scripting/prepared-push.js';
import type { QueuedPushOptions } from '../scripting/queued-push.js';
import type { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { keysOf, ownArguments } from './command-arguments.js';
import type { Lease } from './lease.js';
import { UnavailableUntilExec } from './exec-replies.js';
import { OpenTransaction, type OwnedCommand, type WholeTransaction } from './open-transaction.js';
import type { CancellationToken } from './cancellation-token.js';

/**
 * A server with Redis 7.0 takes time by the square of the number of keys: for this many some 5 ms,
 * for ten times as many half a second.
 */
export const MAX_WATCHED_KEYS = 1_000;

/** The state that all attempts of a transaction share. */
export interface AttemptScope {
  readonly keys: readonly string[];
  readonly slot: number;
  /** True if every key must lie in that slot: on a Cluster, or if the module asks for it. */
  readonly sameSlot: boolean;
  readonly timeoutMs: number;
  readonly deadline: Deadline;
  readonly stop: CancellationToken;
  /** The participants that the transaction's EXEC commits beside its own writes. */
  readonly participants: readonly CommitParticipant[];
}

/** One attempt of a transaction: what its work sees, and the writes queued for EXEC. */
export abstract class TransactionAttempt extends OpenTransaction implements WholeTransaction {
  /** Includes the commands of joined transactions that failed. */
  private readonly queued: OwnedCommand[] = [];
  /** True if a transaction that joined this one needs the replies. */
  requireReplies = false;
  /**
   * True if a transaction that joined this one needs to know that no key that it read was changed.
   */
  validateReads = false;
  override isOpen = true;
  override readonly isDropped = false;
  override readonly outer = undefined;
  override readonly whole = this;
  private readonly replyListeners: ((replies: readonly unknown[] | null) => void)[] = [];
  private pushes: { readonly push: PreparedPush; readonly owner: OpenTransaction }[] | undefined;
  private watched: number;

  constructor(
    protected readonly connection: RedisConnection,
    protected readonly scope: AttemptScope,
    override readonly attempt: number,
    override readonly lease: Lease | undefined,
  ) {
    super();
    this.watched = scope.keys.length;
  }

  /** The answer to a command that reads. */
  protected abstract ask(name: string, args: readonly unknown[]): Promise<unknown>;

  /** Makes a change to these keys, which were not declared, a conflict from now on. */
  protected abstract protect(keys: readonly string[]): Promise<void>;

  override get signal(): AbortSignal {
    return this.scope.stop.signal;
  }

  /**
   * Returns the writes to be committed, in order, each with its place. Writes of a joined
   * transaction that failed are left out.
   */
  commands(): readonly OwnedCommand[] {
    const { queued } = this;
    if (!queued.some(({ owner }) => owner.isDropped)) return queued;
    const kept = queued.filter((command) => {
      command.at = -1;
      return !command.owner.isDropped;
    });
    kept.forEach((command, i) => (command.at = i));
    return kept;
  }

  /**
   * Completes the pushes to be committed, once the work is done. Returns undefined where nothing is
   * to be waited for.
   * @throws InvalidArgumentError for a job that must not be pushed
   */
  completePushes(deadline: Deadline): Promise<unknown> | undefined {
    const completing = this.pushes?.flatMap(({ push, owner }) =>
      owner.isDropped ? [] : (push.complete?.(deadline) ?? []),
    );
    return completing && completing.length > 0 ? Promise.all(completing) : undefined;
  }

  /** Tells of the pushes that EXEC has applied. */
  pushed(): void {
    if (this.pushes) for (const { push, owner } of this.pushes) if (!owner.isDropped) push.applied();
  }

  commandsOf(part: OpenTransaction): readonly OwnedCommand[] {
    return this.queued.filter(({ owner, at }) => at !== -1 && owner.isPartOf(part));
  }

  onCommitted(listener: (replies: readonly unknown[] | null) => void): void {
    this.replyListeners.push(listener);
  }

  /** Tells those that joined what EXEC answered to their part. */
  committed(replies: readonly unknown[] | null): void {
    for (const listener of this.replyListeners) listener(replies);
  }

  /** The work is done or has failed: from here on every use is a mistake. */
  end(): void {
    this.isOpen = false;
  }

  override async watchAll(keys: readonly string[]): Promise<void> {
    this.assertOpen('watch');
    for (const key of keys) check.key('tx.watch', key);
    const { keys: declared } = this.scope;
    const others = keys.filter((key) => !declared.includes(key));
    if (others.length === 0) return;
    this.assertSameSlot(others);
    this.watched += others.length;
    assertFewKeys('tx.watch', this.watched);
    await this.protect(others);
  }

  override sendRead(name: string, args: unknown[]): Promise<unknown> {
    this.assertOpen(`read.${name}`);
    ownArguments(`tx.read.${name}`, name, args);
    if (name.startsWith('xread') && args.some((arg) => String(arg).toUpperCase() === 'BLOCK')) {
      throw new IllegalTransactionStateError(
        'tx.read.xread: BLOCK would hold the transaction open; leave it out',
      );
    }
    if (this.queued.length > 0 || this.scope.sameSlot) {
      const keys = keysOf(name, args);
      this.assertSameSlot(keys);
      const queued = keys.find((key) =>
        this.queued.some(
          (command) => !command.owner.isDropped && keysOf(command.name, command.args).includes(key),
        ),
      );
      if (queued !== undefined) {
        throw new IllegalTransactionStateError(
          `tx.read.${name}: a write to ${describe(queued)} is queued and has no value before EXEC; read first, then write`,
        );
      }
    }
    return this.ask(name, args);
  }

  override enqueue(name: string, args: unknown[], owner: OpenTransaction): unknown {
    this.assertOpen(`write.${name}`);
    ownArguments(`tx.write.${name}`, name, args);
    if (this.scope.sameSlot) this.assertSameSlot(keysOf(name, args));
    const command = { name, args, owner, at: this.queued.length, isHidden: false };
    this.queued.push(command);
    return new UnavailableUntilExec(command);
  }

  override enqueuePush(
    queue: unknown,
    payload: unknown,
    options: QueuedPushOptions,
    owner: OpenTransaction,
  ): string {
    this.assertOpen('push');
    if (!preparesPushes(queue))
      throw new InvalidArgumentError('tx.push.queue', 'a queue of ReliableQueueService.get', queue);
    // A queue lies in the slot of its name.
    if (this.scope.sameSlot)
      this.assertSameSlot(
        [queue.name],
        'Give the queue a name with their hash tag, for example "{42}:emails".',
      );
    const push = queue[PREPARE_PUSH](this.connection, payload, options);
    (this.pushes ??= []).push({ push, owner });
    for (const { name, args } of push.commands)
      this.queued.push({ name, args, owner, at: this.queued.length, isHidden: true });
    return push.id;
  }

  /**
   * @throws CrossSlotError for a key outside the slot of the declared ones, which the server would
   * only redirect
   */
  private assertSameSlot(keys: readonly string[], advice?: string): void {
    const { sameSlot, slot, keys: declared } = this.scope;
    if (!sameSlot) return;
    const stray = keys.find((key) => this.connection.keys.slotOf(key) !== slot);
    if (stray === undefined) return;
    throw new CrossSlotError([declared[0]!, stray], [slot, this.connection.keys.slotOf(stray)], advice);
  }

  private assertOpen(what: string): void {
    if (!this.isOpen) {
      throw new IllegalTransactionStateError(
        `tx.${what} was called after its attempt had ended; await everything inside the work`,
      );
    }
  }
}

/** @throws InvalidArgumentError for more keys than one transaction may watch */
export function assertFewKeys(path: string, count: number): void {
  if (count <= MAX_WATCHED_KEYS) return;
  throw new InvalidArgumentError(
    path,
    `at most ${MAX_WATCHED_KEYS} keys in one transaction: a server's time for watching grows with the square of their number, and 10,000 keys would stall all clients for half a second`,
    count,
  );
}
