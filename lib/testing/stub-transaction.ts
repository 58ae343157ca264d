import { AsyncLocalStorage } from 'node:async_hooks';
import { isDeepStrictEqual } from 'node:util';
import { ConfigurationError, describe } from '../atomic-redis.errors.js';
import type { CompletableJob } from '../scripting/completable-job.js';
import type { PushTarget, QueuedPushOptions } from '../scripting/queued-push.js';
import {
  READ_COMMANDS,
  WRITE_COMMANDS,
  type TransactionReads,
  type TransactionWrites,
} from '../transactions/transaction-commands.js';
import { Transaction } from '../transactions/transaction.js';

/** A write as the code under test made it: the command and its arguments. */
export type QueuedCommand = readonly [command: string, ...args: unknown[]];

/** A job as the code under test pushed it by `tx.push`. */
export interface PushedJob extends QueuedPushOptions {
  /** The name of the queue. */
  readonly queue: string;
  readonly payload: unknown;
}

interface Attempt {
  readonly number: number;
  readonly writes: QueuedCommand[];
  readonly pushes: PushedJob[];
}

interface GivenRead {
  readonly command: string;
  readonly args: readonly unknown[];
  readonly answer: unknown;
}

/** A transaction without Redis: the test gives what it reads, and sees what it writes. */
export class StubTransaction extends Transaction {
  override readonly read = {} as TransactionReads;
  override readonly write = {} as TransactionWrites;
  override readonly signal: AbortSignal = new AbortController().signal;
  /** The writes of the transactions that went through, in order. */
  applied: QueuedCommand[] = [];
  /** The ids of the jobs that these have completed, in order. */
  completed: string[] = [];
  /** The jobs that these have pushed, in order. */
  pushed: PushedJob[] = [];
  private pushes = 0;
  private given: GivenRead[] = [];
  private readonly attempts = new AsyncLocalStorage<Attempt>();

  constructor() {
    super();
    for (const command of READ_COMMANDS)
      for (const name of [command, `${command}Buffer`])
        // Async, so that a read without an answer rejects.
        Object.assign(this.read, { [name]: async (...args: unknown[]) => await this.answerTo(name, args) });
    for (const command of WRITE_COMMANDS)
      Object.assign(this.write, {
        [command]: (...args: unknown[]) => {
          (this.attempts.getStore()?.writes ?? this.applied).push([command, ...args]);
          return {};
        },
      });
  }

  override get attempt(): number {
    return this.attempts.getStore()?.number ?? 1;
  }

  override watch(): Promise<void> {
    return Promise.resolve();
  }

  override push<Payload>(
    { name }: PushTarget<Payload>,
    payload: NoInfer<Payload>,
    options?: QueuedPushOptions,
  ): string {
    (this.attempts.getStore()?.pushes ?? this.pushed).push({ ...options, queue: name, payload });
    return `job-${++this.pushes}`;
  }

  giveRead(command: string, args: readonly unknown[], answer: unknown): void {
    this.given.unshift({ command, args, answer });
  }

  /**
   * Runs `work` as a transaction that meets `conflicts` changes: the writes of an attempt that is
   * repeated, or fails, are dropped. A nested call is part of the outer one.
   */
  async run<T>(work: () => T, conflicts: number, job?: CompletableJob): Promise<Awaited<T>> {
    const outer = this.attempts.getStore();
    if (outer) return await work();
    for (let number = 1; ; number++) {
      const attempt: Attempt = { number, writes: [], pushes: [] };
      const result = await this.attempts.run(attempt, work);
      if (number <= conflicts) continue;
      this.applied.push(...attempt.writes);
      this.pushed.push(...attempt.pushes);
      if (job) this.completed.push(job.id);
      return result;
    }
  }

  reset(): void {
    this.given = [];
    this.applied = [];
    this.pushed = [];
    this.completed = [];
  }

  private answerTo(command: string, args: readonly unknown[]): unknown {
    const found = this.given.find((one) => one.command === command && isDeepStrictEqual(one.args, args));
    if (found) return found.answer;
    const list = [command, ...args].map(describe).join(', ');
    throw new ConfigurationError(
      `tx.read.${command}(${args.map(describe).join(', ')}) has no answer in this test. Give it one: module.get(AtomicRedisOutcomes).onRead(${list}).returns(…)`,
    );
  }
}
