import type { QueuedCommand } from '../scripting/commit-participant.js';
import type { PushTarget, QueuedPushOptions } from '../scripting/queued-push.js';
import { handled } from './handled.js';
import type { Lease } from './lease.js';
import {
  READ_COMMANDS,
  WRITE_COMMANDS,
  type TransactionReads,
  type TransactionWrites,
} from './transaction-commands.js';
import { Transaction } from './transaction.js';

/** A write that waits for EXEC, and the transaction that it belongs to. */
export interface OwnedCommand extends QueuedCommand {
  readonly owner: OpenTransaction;
  /** Its place among the commands of the attempt; -1 once it was dropped. */
  at: number;
  /** True for a command of the library's own, whose reply is not told to the caller. */
  readonly isHidden: boolean;
}

const NO_OPTIONS: QueuedPushOptions = Object.freeze({});

/** An attempt, for the transactions that have joined it. */
export interface WholeTransaction {
  requireReplies: boolean;
  validateReads: boolean;
  /** Returns the commands to be committed that belong to `part`, or to what has joined that. */
  commandsOf(part: OpenTransaction): readonly OwnedCommand[];
  /** Receives what EXEC answered; null where that was lost. */
  onCommitted(listener: (replies: readonly unknown[] | null) => void): void;
}

/** The transaction that a work sees: an attempt, or one that has joined an attempt. */
export abstract class OpenTransaction extends Transaction {
  readonly read: TransactionReads;
  readonly write: TransactionWrites;
  /** Joined transactions that have not ended. */
  private joining: Set<Promise<unknown>> | undefined;

  constructor() {
    super();
    this.read = new Reads(this) as unknown as TransactionReads;
    this.write = new Writes(this) as unknown as TransactionWrites;
  }

  /** True while its work is running. */
  abstract readonly isOpen: boolean;

  /** True if its writes are not to be committed. */
  abstract readonly isDropped: boolean;

  /** The transaction that it has joined. */
  abstract readonly outer: OpenTransaction | undefined;

  /** The attempt that commits it. */
  abstract readonly whole: WholeTransaction;

  /** The connection that it holds, or will have to wait for. */
  abstract readonly lease: Lease | undefined;

  /** Sends a command of `tx.read`. */
  abstract sendRead(name: string, args: unknown[]): Promise<unknown>;

  /** Queues a command of `tx.write`. */
  abstract enqueue(name: string, args: unknown[], owner: OpenTransaction): unknown;

  /** Queues the commands of a push, and returns the id of its job. */
  abstract enqueuePush(
    queue: unknown,
    payload: unknown,
    options: QueuedPushOptions,
    owner: OpenTransaction,
  ): string;

  abstract watchAll(keys: readonly string[]): Promise<void>;

  override watch(...keys: string[]): Promise<void> {
    return handled(this.watchAll(keys));
  }

  override push<Payload>(
    queue: PushTarget<Payload>,
    payload: NoInfer<Payload>,
    options: QueuedPushOptions = NO_OPTIONS,
  ): string {
    return this.enqueuePush(queue, payload, options, this);
  }

  /** True if it is `transaction`, or has joined it. */
  isPartOf(transaction: OpenTransaction): boolean {
    return this === transaction || (this.outer?.isPartOf(transaction) ?? false);
  }

  /** Waits for what joins it; {@link joined} does as well. */
  async track<T>(joining: Promise<T>): Promise<T> {
    this.joining ??= new Set();
    this.joining.add(joining);
    try {
      return await joining;
    } finally {
      this.joining.delete(joining);
    }
  }

  /** True if a transaction that joined it is not done. */
  get isJoining(): boolean {
    return this.joining !== undefined && this.joining.size > 0;
  }

  /**
   * Resolves once everything that joined it is done: what a work did not wait for is a part of it
   * all the same.
   */
  async joined(): Promise<void> {
    while (this.isJoining) await Promise.allSettled(this.joining!);
  }
}

/** A class with one method for each command; its methods are made once, not for each attempt. */
function commandsClass(
  names: readonly string[],
  call: (transaction: OpenTransaction, name: string, args: unknown[]) => unknown,
): new (transaction: OpenTransaction) => object {
  class Commands {
    constructor(readonly transaction: OpenTransaction) {}
  }
  for (const name of names) {
    Object.defineProperty(Commands.prototype, name, {
      value(this: Commands, ...args: unknown[]) {
        return call(this.transaction, name, args);
      },
    });
  }
  return Commands;
}

const Reads = commandsClass(
  READ_COMMANDS.flatMap((name) => [name, `${name}Buffer`]),
  (transaction, name, args) => transaction.sendRead(name, args),
);
const Writes = commandsClass(WRITE_COMMANDS, (transaction, name, args) =>
  transaction.enqueue(name, args, transaction),
);
