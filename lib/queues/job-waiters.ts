import { whenAborted } from '../runtime/abort-listeners.js';
import { unschedule, schedule, type ScheduledCall } from '../runtime/timer-queue.js';
import { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { JobNotifier, WatchedQueue } from './job-notifier.js';
import type { QueueCommands } from './queue-commands.js';

interface JobWaiter {
  wake(): void;
  fail(reason: Error): void;
}

/** The waiting callers of one queue in this process. */
export class JobWaiters implements WatchedQueue {
  private readonly waiting = new Set<JobWaiter>();
  private look: ScheduledCall | undefined;
  private closed = false;

  constructor(
    private readonly connection: RedisConnection,
    private readonly commands: QueueCommands,
    private readonly notifier: JobNotifier,
  ) {}

  get wakeKey(): string {
    return this.commands.keys.wake;
  }

  get isWaitedFor(): boolean {
    return this.waiting.size > 0;
  }

  /**
   * Resolves with true when it is time to look for jobs: there may be some, or `lookInMs` is over.
   * Resolves with false when the time is up.
   * @throws the signal's reason; ModuleClosedError
   */
  async turn(until: Deadline, lookInMs: number, signal?: AbortSignal): Promise<boolean> {
    if (this.closed) throw this.connection.closedError();
    signal?.throwIfAborted();
    if (until.passed) return false;
    this.lookAt(performance.now() + lookInMs);
    return await new Promise<boolean>((resolve, reject) => {
      const leave = (): void => {
        unschedule(deadline);
        stopListening();
        this.waiting.delete(waiter);
        if (this.waiting.size === 0) this.stopLooking();
      };
      const waiter: JobWaiter = {
        wake: () => {
          leave();
          resolve(true);
        },
        fail: (reason) => {
          leave();
          reject(reason);
        },
      };
      const stopListening = signal
        ? whenAborted(signal, () => waiter.fail(signal.reason as Error))
        : () => undefined;
      const deadline = schedule(until.at, () => {
        leave();
        resolve(false);
      });
      this.waiting.add(waiter);
      this.notifier.watch(this);
    });
  }

  /** Has those who wait look after this time at the latest. */
  lookIn(ms: number): void {
    if (this.isWaitedFor) this.lookAt(performance.now() + ms);
  }

  /** All of them: their takes are one script. */
  wake(): void {
    for (const waiter of [...this.waiting]) waiter.wake();
  }

  async passOn(): Promise<void> {
    // Not done, other processes find the jobs when they next look.
    await this.commands.wake().catch(() => undefined);
  }

  close(): void {
    this.closed = true;
    for (const waiter of [...this.waiting]) waiter.fail(this.connection.closedError());
  }

  /** The earliest time that any of them asked for. */
  private lookAt(at: number): void {
    if (this.look && this.look.at <= at) return;
    this.stopLooking();
    this.look = schedule(at, () => {
      this.look = undefined;
      this.wake();
    });
  }

  private stopLooking(): void {
    if (this.look) unschedule(this.look);
    this.look = undefined;
  }
}
