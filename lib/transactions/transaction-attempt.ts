import { Command } from 'ioredis';
import {
  CrossSlotError,
  describe,
  InvalidArgumentError,
  TransactionMisuseError,
} from '../atomic-redis.errors.js';
import type { CommitParticipant, QueuedCommand } from '../redis/commit-participant.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import {
  OBJECT_COMMANDS,
  READ_COMMANDS,
  WRITE_COMMANDS,
  type TransactionReads,
  type TransactionWrites,
} from './transaction-commands.js';
import { execReplies, UnavailableUntilExec } from './exec-replies.js';
import type { Stop } from './stop.js';
import type { TransactionOptions } from './transaction.options.js';
import { Transaction } from './transaction.js';

type JoinOptions = Pick<TransactionOptions, 'onReplies' | 'requireReplies'>;

/** What all attempts of a transaction share. */
export interface AttemptScope {
  readonly keys: readonly string[];
  readonly slot: number;
  /** Whether every key must lie in that slot: on a Cluster, or where the module asks for it. */
  readonly sameSlot: boolean;
  readonly timeoutMs: number;
  readonly stop: Stop;
  /** What the transaction's EXEC is to commit beside its own writes. */
  readonly participant: CommitParticipant | undefined;
}

/** One attempt of a transaction: what its work sees, and the writes queued for EXEC. */
export abstract class TransactionAttempt extends Transaction {
  readonly read: TransactionReads;
  readonly write: TransactionWrites;
  readonly queued: QueuedCommand[] = [];
  /** Whether a transaction that joined this one needs the replies. */
  requireReplies = false;
  private readonly replyListeners: ((replies: readonly unknown[] | null) => void)[] = [];
  isOpen = true;

  constructor(
    protected readonly connection: RedisConnection,
    protected readonly scope: AttemptScope,
    readonly attempt: number,
  ) {
    super();
    this.read = new Reads(this) as unknown as TransactionReads;
    this.write = new Writes(this) as unknown as TransactionWrites;
  }

  /** The answer to a command that reads. */
  protected abstract ask(name: string, args: readonly unknown[]): Promise<unknown>;

  /** Makes a change to these keys, which were not declared, a conflict from now on. */
  protected abstract protect(keys: readonly string[]): Promise<void>;

  override get signal(): AbortSignal {
    return this.scope.stop.signal;
  }

  /**
   * Runs the work of a transaction that joins this one. When it throws, its writes are dropped, whatever the work around it makes of that.
   */
  async join<T>(work: (tx: Transaction) => Promise<T> | T, options: JoinOptions): Promise<T> {
    const from = this.queued.length;
    let value: T;
    try {
      value = await work(this);
    } catch (error) {
      this.queued.length = from;
      throw error;
    }
    const to = this.queued.length;
    const { onReplies } = options;
    if (onReplies) this.replyListeners.push((all) => onReplies(execReplies(all, from, to)));
    this.requireReplies ||= options.requireReplies ?? false;
    return value;
  }

  /** Tells those that joined what EXEC answered to their part. */
  committed(replies: readonly unknown[] | null): void {
    for (const listener of this.replyListeners) listener(replies);
  }

  /** The work is done or has failed: from here on every use is a mistake. */
  end(): void {
    this.isOpen = false;
  }

  async watch(...keys: string[]): Promise<void> {
    this.assertOpen('watch');
    for (const key of keys)
      if (typeof key !== 'string' || key === '')
        throw new InvalidArgumentError('tx.watch', 'given non-empty strings', key);
    const others = keys.filter((key) => !this.scope.keys.includes(key));
    if (others.length === 0) return;
    this.assertSameSlot(others);
    await this.protect(others);
  }

  /** What `tx.read` has for each command. */
  sendRead(name: string, args: unknown[]): Promise<unknown> {
    this.assertOpen(`read.${name}`);
    assertArguments(`tx.read.${name}`, name, args);
    if (name.startsWith('xread') && args.some((arg) => String(arg).toUpperCase() === 'BLOCK')) {
      throw new TransactionMisuseError('tx.read.xread: BLOCK would hold the transaction open');
    }
    if (this.queued.length > 0 || this.scope.sameSlot) {
      const keys = keysOf(name, args);
      this.assertSameSlot(keys);
      const queued = keys.find((key) =>
        this.queued.some((command) => keysOf(command.name, command.args).includes(key)),
      );
      if (queued !== undefined) {
        throw new TransactionMisuseError(
          `tx.read.${name}: a write to ${describe(queued)} is queued and has no value before EXEC; read first, then write`,
        );
      }
    }
    return this.ask(name, args);
  }

  /** What `tx.write` has for each command. */
  enqueue(name: string, args: unknown[]): unknown {
    this.assertOpen(`write.${name}`);
    assertArguments(`tx.write.${name}`, name, args);
    if (this.scope.sameSlot) this.assertSameSlot(keysOf(name, args));
    this.queued.push({ name, args });
    return new UnavailableUntilExec(name, this.queued.length - 1);
  }

  /** @throws CrossSlotError for a key outside the slot of the declared ones, which the server would only redirect */
  private assertSameSlot(keys: readonly string[]): void {
    const { sameSlot, slot, keys: declared } = this.scope;
    if (!sameSlot) return;
    const stray = keys.find((key) => this.connection.keys.slotOf(key) !== slot);
    if (stray === undefined) return;
    throw new CrossSlotError([declared[0]!, stray], [slot, this.connection.keys.slotOf(stray)]);
  }

  private assertOpen(what: string): void {
    if (!this.isOpen) {
      throw new TransactionMisuseError(
        `tx.${what} was called after its attempt had ended; await everything inside the work`,
      );
    }
  }
}

/** A class with one method for each command; its methods are made once, not for each attempt. */
function commandsClass(
  names: readonly string[],
  call: (attempt: TransactionAttempt, name: string, args: unknown[]) => unknown,
): new (attempt: TransactionAttempt) => object {
  class Commands {
    constructor(readonly attempt: TransactionAttempt) {}
  }
  for (const name of names) {
    Object.defineProperty(Commands.prototype, name, {
      value(this: Commands, ...args: unknown[]) {
        return call(this.attempt, name, args);
      },
    });
  }
  return Commands;
}

const Reads = commandsClass(
  READ_COMMANDS.flatMap((name) => [name, `${name}Buffer`]),
  (attempt, name, args) => attempt.sendRead(name, args),
);
const Writes = commandsClass(WRITE_COMMANDS, (attempt, name, args) => attempt.enqueue(name, args));

function keysOf(name: string, args: readonly unknown[]): string[] {
  const command = new Command(name.replace(/Buffer$/, ''), args as (string | Buffer | number)[]);
  return command.getKeys().map(String);
}

/** ioredis would send undefined and null as "", and objects as "[object Object]". */
function assertArguments(path: string, name: string, args: readonly unknown[]): void {
  for (const value of args) {
    if (
      typeof value === 'string' ||
      Buffer.isBuffer(value) ||
      typeof value === 'bigint' ||
      Number.isFinite(value)
    )
      continue;
    if (Array.isArray(value)) assertArguments(path, name, value);
    else if (OBJECT_COMMANDS.has(name) && value instanceof Map)
      assertArguments(path, name, [...(value as Map<unknown, unknown>).entries()]);
    else if (OBJECT_COMMANDS.has(name) && isPlainObject(value))
      assertArguments(path, name, Object.values(value));
    else throw new InvalidArgumentError(path, 'given strings, Buffers, finite numbers or bigints', value);
  }
}

function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
